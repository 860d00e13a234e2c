#include "program/update.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/method.h"
#include "core/training.h"
#include "models/dynamic_map.h"
#include "program/attributes.h"
#include "program/emitter.h"
#include "program/lowering.h"
#include "program/op.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

// Elements [begin, end) of a unit.
struct Range {
  std::int64_t begin, end;
};

class UpdateRule {
 public:
  UpdateRule(Lowering& lowering, Emitter& emitter, Operand coefficient)
      : low_(lowering), emit_(emitter), coefficient_(coefficient) {}

  // The part of the elements that this rank updates.
  void update_shard(const TrainedUnit& unit, Range range, double decay) {
    const std::int64_t shard = low_.program.tensor(unit.update_gradients).shape.elements();
    const std::int64_t origin = low_.shards() ? low_.request.rank * shard : 0;
    range = {std::max(range.begin, origin), std::min(range.end, origin + shard)};
    if (range.begin >= range.end) return;
    if (unit.scale1 == kNone) {
      update(unit, origin, range, rule(decay));
    } else {
      update_blocks(unit, origin, range, decay);
    }
  }

 private:
  // Elements [begin, end) of a flat tensor.
  TensorId part(TensorId tensor, std::int64_t begin, std::int64_t end) {
    const Tensor whole = low_.program.tensor(tensor);
    return emit_.tensor(whole.storage, {end - begin}, whole.dtype,
                        whole.offset + begin * size_of(whole.dtype));
  }

  // Padding is left out of the last block of each tensor. Blocks are those of unsharded tensors: a
  // tensor begins, and a shard is cut, at a multiple of them.
  void update_blocks(const TrainedUnit& unit, std::int64_t origin, Range range, double decay) {
    static_assert(kUnitAlignment % models::kDynamicBlock == 0);
    const TrainingOptions& training = low_.job.request.training;
    for (std::size_t i = 0; i <= unit.gaps.size() && range.begin < range.end; ++i) {
      const Gap gap = i < unit.gaps.size() ? unit.gaps[i] : Gap{range.end, range.end};
      if (gap.end <= range.begin) continue;
      const std::int64_t end = std::min(gap.end, range.end);
      const std::int64_t padding = end - std::clamp(gap.begin, range.begin, end);
      update(unit, origin, {range.begin, end},
             {.op = Op::kAdamw8bit,
              .attributes = emit_.attributes(AdamwAttributes{training.betas[0], training.betas[1],
                                                             training.eps, decay, padding})});
      range.begin = end;
    }
  }

  // Completes `instruction` and emits it. Element `origin` of the unit is the shard's first.
  void update(const TrainedUnit& unit, std::int64_t origin, Range range, Instruction instruction) {
    const auto part = [&](TensorId id, std::int64_t first) {
      return this->part(id, range.begin - first, range.end - first);
    };
    instruction.predicate = static_cast<std::uint8_t>(Scalar::kGradientsFinite);
    instruction.in = {{part(unit.update_gradients, origin)}, coefficient_};
    instruction.update = {{part(unit.weights, unit.weights == unit.whole ? 0 : origin)}};
    for (const TensorId moment : {unit.moment1, unit.moment2}) {
      if (moment != kNone) instruction.update.push_back({part(moment, origin)});
    }
    for (const TensorId scale : {unit.scale1, unit.scale2}) {
      if (scale == kNone) continue;
      instruction.update.push_back(
          {this->part(scale, (range.begin - origin) / models::kDynamicBlock,
                      (range.end - origin) / models::kDynamicBlock)});
    }
    if (unit.master != kNone) instruction.update.push_back({part(unit.master, origin)});
    emit_.emit(instruction);
  }

  Instruction rule(double decay) {
    const TrainingOptions& training = low_.job.request.training;
    if (low_.job.request.method.optimizer == Optimizer::kSgd) {
      return {.op = Op::kSgd,
              .attributes = emit_.attributes(SgdAttributes{training.momentum, decay})};
    }
    return {.op = Op::kAdamw,
            .attributes = emit_.attributes(
                AdamwAttributes{training.betas[0], training.betas[1], training.eps, decay})};
  }

  Lowering& low_;
  Emitter& emit_;
  Operand coefficient_;
};

}  // namespace

void add_to_norm(const Lowering& lowering, Emitter& emitter, const TrainedUnit& unit) {
  emitter.emit({.op = Op::kSquareSum,
                .in = {{unit.update_gradients}},
                .update = {{lowering.program.interface.gradient_norm}}});
}

Operand clip_by_norm(const Lowering& lowering, Emitter& emitter) {
  const Operand coefficient{emitter.transient("clip coefficient", {1}, DType::kF32)};
  emitter.emit(
      {.op = Op::kClip,
       .attributes = emitter.attributes(ClipAttributes{lowering.job.request.training.clip}),
       .in = {{lowering.program.interface.gradient_norm}},
       .out = {coefficient}});
  return coefficient;
}

void update(Lowering& lowering, Emitter& emitter, const TrainedUnit& unit, Operand coefficient) {
  UpdateRule rule(lowering, emitter, coefficient);
  rule.update_shard(unit, {0, unit.decayed}, lowering.job.request.training.weight_decay);
  rule.update_shard(unit, {unit.decayed, unit.elements}, 0);
}

}  // namespace ftplan::program

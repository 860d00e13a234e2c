#include <algorithm>
#include <cstdint>

#include "core/dtype.h"
#include "core/method.h"
#include "core/result.h"
#include "core/training.h"
#include "program/attributes.h"
#include "program/emitter.h"
#include "program/lowering.h"
#include "program/op.h"
#include "program/passes/passes.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

class Optimization {
 public:
  explicit Optimization(Lowering& lowering) : low_(lowering), emit_(lowering.program) {}

  void run() {
    emit_.reopen(low_.program.root);
    emit_.set_phase(Phase::kOptimizer);
    const Operand norm{low_.program.interface.gradient_norm};
    emit_.emit({.op = Op::kZero, .out = {norm}});
    for (const TrainedUnit& unit : low_.program.units) {
      open_unit(unit);
      emit_.emit({.op = Op::kSquareSum, .in = {{unit.update_gradients}}, .update = {norm}});
      emit_.close();
    }
    coefficient_ = {emit_.transient("clip coefficient", {1}, DType::kF32)};
    emit_.emit({.op = Op::kClip,
                .attributes = emit_.attributes(ClipAttributes{low_.job.request.training.clip}),
                .in = {norm},
                .out = {coefficient_}});
    for (const TrainedUnit& unit : low_.program.units) {
      open_unit(unit);
      update(unit, 0, unit.decayed, low_.job.request.training.weight_decay);
      update(unit, unit.decayed, unit.elements, 0);
      emit_.close();
    }
    emit_.close();
  }

 private:
  void open_unit(const TrainedUnit& unit) {
    emit_.open({.repeat = unit.layers, .axis = unit.per_layer ? Axis::kLayer : Axis::kOnce});
  }

  // Elements [begin, end) of `tensor`, of which element 0 is element `origin` of the unit.
  TensorId part(TensorId tensor, std::int64_t origin, std::int64_t begin, std::int64_t end) {
    const Tensor whole = low_.program.tensor(tensor);
    return emit_.tensor(whole.storage, {end - begin}, whole.dtype,
                        whole.offset + (begin - origin) * size_of(whole.dtype));
  }

  // The part of [begin, end) that this rank updates.
  void update(const TrainedUnit& unit, std::int64_t begin, std::int64_t end, double decay) {
    const std::int64_t shard = low_.program.tensor(unit.update_gradients).shape.elements();
    const std::int64_t origin = low_.shards() ? low_.request.rank * shard : 0;
    begin = std::max(begin, origin);
    end = std::min(end, origin + shard);
    if (begin >= end) return;
    Instruction instruction = rule(decay);
    instruction.predicate = static_cast<std::uint8_t>(Scalar::kGradientsFinite);
    instruction.in = {{part(unit.update_gradients, origin, begin, end)}, coefficient_};
    instruction.update = {{part(unit.weights, 0, begin, end)}};
    for (const TensorId state : {unit.moment1, unit.moment2, unit.master}) {
      if (state != kNone) instruction.update.push_back({part(state, origin, begin, end)});
    }
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
  Emitter emit_;
  Operand coefficient_;
};

}  // namespace

Result<void> optimize(Lowering& lowering) {
  if (lowering.trains()) Optimization(lowering).run();
  return {};
}

}  // namespace ftplan::program

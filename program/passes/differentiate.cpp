#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/category.h"
#include "core/check.h"
#include "core/result.h"
#include "program/attributes.h"
#include "program/backward.h"
#include "program/clone.h"
#include "program/emitter.h"
#include "program/lowering.h"
#include "program/op.h"
#include "program/passes/passes.h"
#include "program/step_program.h"
#include "program/update.h"

namespace ftplan::program {
namespace {

std::vector<InstructionId> instructions_of(const Segment& segment) {
  std::vector<InstructionId> ids;
  for (const Node& node : segment.body) {
    FTPLAN_CHECK(!node.is_segment);
    ids.push_back(node.id);
  }
  return ids;
}

// What the backward reads of a layer must outlive it: one copy per layer, pushed on the stack.
void keep_until_backward(Lowering& lowering, const std::vector<StorageId>& kept) {
  const StorageId residual = lowering.program.tensor(lowering.tensors.residual).storage;
  const auto layers = static_cast<std::int32_t>(lowering.layers());
  for (const StorageId id : kept) {
    Storage& storage = lowering.program.storages[static_cast<std::size_t>(id)];
    // Inputs are made once, before the layers.
    if (storage.place != Place::kDevice || storage.category == Category::kInputs) continue;
    storage.region = Region::kStack;
    storage.copies = {.count = id == residual ? layers + 1 : layers};
  }
}

// Whole units are summed, reduced and updated, so the padding of their gradients is zero. It is
// made where the gradient is: by the first segment that writes the unit's copy.
class Padder {
 public:
  explicit Padder(Emitter& emitter)
      : emitter_(emitter), padded_(emitter.program().units.size(), false) {}

  void pad(const std::vector<InstructionId>& forward, SegmentId backward) {
    StepProgram& program = emitter_.program();
    std::vector<InstructionId> written_by = instructions_of(program.segment(backward));
    written_by.insert(written_by.end(), forward.begin(), forward.end());
    for (std::size_t u = 0; u < program.units.size(); ++u) {
      const TrainedUnit unit = program.units[u];
      if (unit.gaps.empty() || padded_[u] ||
          !writes(written_by, program.tensor(unit.gradients).storage))
        continue;
      for (const TensorId gap : emitter_.gaps(unit.gaps, unit.gradients)) {
        emitter_.emit({.op = Op::kZero, .out = {{gap}}});
      }
      padded_[u] = !unit.per_layer;
    }
  }

 private:
  bool writes(const std::vector<InstructionId>& ids, StorageId storage) {
    const StepProgram& program = emitter_.program();
    return std::any_of(ids.begin(), ids.end(), [&](InstructionId id) {
      const auto written = written_storages(program, program.instruction(id));
      return std::find(written.begin(), written.end(), storage) != written.end();
    });
  }

  Emitter& emitter_;
  std::vector<bool> padded_;
};

// Updates units in the segment that makes the last contribution to their gradient.
class EarlyUpdates {
 public:
  EarlyUpdates(Lowering& lowering, Emitter& emitter, const std::vector<Node>& forward)
      : low_(lowering), emitter_(emitter), last_(lowering.program.units.size(), kNone) {
    const StepProgram& program = lowering.program;
    // The backward comes last to what the forward used first.
    for (auto node = forward.rbegin(); node != forward.rend(); ++node) {
      if (!node->is_segment) continue;
      const auto body = instructions_of(program.segment(node->id));
      for (std::size_t u = 0; u < last_.size(); ++u) {
        if (reads(body, program.tensor(program.units[u].whole).storage)) last_[u] = node->id;
      }
    }
  }

  void update(SegmentId forward) {
    const Phase before = emitter_.phase();
    emitter_.set_phase(Phase::kOptimizer);
    for (std::size_t u = 0; u < last_.size(); ++u) {
      const TrainedUnit unit = low_.program.units[u];
      if (unit.gradients == kNone || !(unit.per_layer ? in_layers(forward) : last_[u] == forward))
        continue;
      add_to_norm(low_, emitter_, unit);
      program::update(low_, emitter_, unit, clip_by_norm(low_, emitter_));
    }
    emitter_.set_phase(before);
  }

 private:
  [[nodiscard]] bool in_layers(SegmentId forward) const {
    return low_.program.segment(forward).role == Role::kLayers;
  }
  [[nodiscard]] bool reads(const std::vector<InstructionId>& ids, StorageId storage) const {
    return std::any_of(ids.begin(), ids.end(), [&](InstructionId id) {
      const auto read = read_storages(low_.program, low_.program.instruction(id));
      return std::find(read.begin(), read.end(), storage) != read.end();
    });
  }

  Lowering& low_;
  Emitter& emitter_;
  std::vector<SegmentId> last_;  // per unit: the forward segment whose backward comes last
};

// Counts what backwards read of forwards: inputs once, everything else in each layer.
class SavedBytes {
 public:
  explicit SavedBytes(const StepProgram& program) : program_(program) {}

  void add(const std::vector<StorageId>& kept, std::int32_t layers) {
    for (const StorageId id : kept) {
      const Storage& storage = program_.storages[static_cast<std::size_t>(id)];
      if (storage.place != Place::kDevice) continue;
      const bool input = storage.category == Category::kInputs;
      if (input && std::find(inputs_.begin(), inputs_.end(), id) != inputs_.end()) continue;
      if (input) inputs_.push_back(id);
      bytes_ += (input ? 1 : layers) * storage.size;
    }
  }
  [[nodiscard]] Bytes bytes() const { return bytes_; }

 private:
  const StepProgram& program_;
  std::vector<StorageId> inputs_;
  Bytes bytes_;
};

// Hands the gradient of the residual stream on to the stage before, or takes it from the next one.
void transfer_gradient(Lowering& lowering, Emitter& emitter, Op op, Operand gradient,
                       std::int32_t layer) {
  const std::int64_t peer = lowering.request.rank + (op == Op::kSend ? -1 : 1);
  const Role role = op == Op::kSend ? Role::kEntry : Role::kExit;
  emitter.open({.first = layer, .axis = Axis::kLayer, .role = role});
  Instruction transfer{.op = op, .attributes = emitter.attributes(PeerAttributes{peer})};
  (op == Op::kSend ? transfer.in : transfer.out).push_back(gradient);
  emitter.emit(transfer);
  emitter.close();
}

}  // namespace

Result<void> differentiate(Lowering& lowering) {
  if (!lowering.trains()) return {};
  StepProgram& program = lowering.program;
  Emitter emitter(program);
  const SegmentId micro = program.segment(program.root).body.back().id;
  const std::vector<Node> forward = program.segment(micro).body;
  Backward backward(emitter, lowering.tensors.gradients);
  Padder padder(emitter);
  SavedBytes saved(program);
  const TensorId residual = lowering.tensors.residual;
  const bool input_learns = lowering.input_learns();
  const bool only_head_learns = !input_learns && !lowering.layers_learn();

  EarlyUpdates updates(lowering, emitter, forward);
  const bool updates_here = lowering.updates_in_backward();

  emitter.reopen(micro);
  emitter.set_phase(Phase::kBackward);
  if (updates_here) emitter.emit({.op = Op::kZero, .out = {{program.interface.gradient_norm}}});
  Operand gradient;  // of the residual where the backward stands
  for (auto node = forward.rbegin(); node != forward.rend(); ++node) {
    if (!node->is_segment) continue;
    const Segment span = program.segment(node->id);
    if (only_head_learns && span.role != Role::kHead) break;
    if (span.role == Role::kExit) {
      const Tensor like = program.tensor(residual);
      gradient = {emitter.transient("residual gradient", like.shape, like.dtype)};
      // It is read by the last layer first.
      transfer_gradient(lowering, emitter, Op::kReceive, gradient, span.first - 1);
      continue;
    }
    if (span.role == Role::kEntry) {
      if (input_learns) transfer_gradient(lowering, emitter, Op::kSend, gradient, span.first);
      continue;
    }
    const bool first_alone = !input_learns && span.role == Role::kLayers && span.first == 0;
    std::vector<Operand> entering;
    std::vector<Backward::Seed> leaving;
    if (span.role != Role::kEmbed && !first_alone && !only_head_learns)
      entering.push_back({residual, 0});
    if (span.role == Role::kLayers) leaving.push_back({{residual, 1}, gradient});
    if (span.role == Role::kEmbed) leaving.push_back({{residual, 0}, gradient});
    const SegmentId opened =
        emitter.open({.first = span.first,
                      .repeat = span.repeat,
                      .axis = span.axis,
                      .descending = true,
                      .role = span.role == Role::kLayers ? Role::kBackwardLayers : Role::kOther});
    backward.begin(instructions_of(span), entering, leaving);
    backward.run();
    padder.pad(instructions_of(span), opened);
    const Operand left = backward.gradient_after({residual, 0});
    if (span.role == Role::kHead) gradient = left;
    // A layer ends with its input's gradient where its output's was, so that layers repeat.
    FTPLAN_CHECK(span.role != Role::kLayers || first_alone || left == gradient);
    if (updates_here) updates.update(node->id);
    emitter.close_or_drop();
    saved.add(backward.kept(), span.repeat);
    if (span.role == Role::kLayers) keep_until_backward(lowering, backward.kept());
  }
  if (lowering.tensors.held != kNone)
    emitter.emit({.op = Op::kMark, .in = {{lowering.tensors.held}}});
  emitter.close();
  program.saved_bytes = saved.bytes();
  return {};
}

}  // namespace ftplan::program

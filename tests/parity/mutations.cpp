#include "tests/parity/mutations.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/category.h"
#include "core/check.h"
#include "core/model_config.h"
#include "executor/call.h"
#include "executor/rank_run.h"
#include "program/attributes.h"
#include "program/op.h"
#include "program/step_program.h"

namespace ftplan::parity {
namespace {

template <class A, class F>
void change(program::StepProgram& program, F f) {
  for (program::Attributes& attributes : program.attributes) {
    if (A* found = std::get_if<A>(&attributes)) f(*found);
  }
}

// Of either optimizer.
template <class F>
void change_decay(program::StepProgram& program, F f) {
  change<program::AdamwAttributes>(program, [&](auto& a) { f(a.weight_decay); });
  change<program::SgdAttributes>(program, [&](auto& a) { f(a.weight_decay); });
}

template <class F>
void change_ops(program::StepProgram& program, program::Op op, F f) {
  for (program::Instruction& instruction : program.instructions) {
    if (instruction.op == op) f(instruction);
  }
}

// Norms of heads, those of queries and of keys by turns.
std::vector<program::Instruction*> head_norms(program::StepProgram& program) {
  std::vector<program::Instruction*> found;
  change_ops(program, program::Op::kRmsNorm, [&](program::Instruction& i) {
    const bool whole =
        program.tensor(i.in[1]).shape.elements() == program.tensor(i.in[0]).shape.width();
    if (!whole) found.push_back(&i);
  });
  return found;
}

// The second norm of the same input takes weight and bias of the first.
void lose_parallel_norms(program::StepProgram& program) {
  program::Instruction* last = nullptr;
  change_ops(program, program::Op::kLayerNorm, [&](program::Instruction& i) {
    if (last != nullptr && last->in[0] == i.in[0]) {
      i.in[1] = last->in[1];
      i.in[2] = last->in[2];
    }
    last = &i;
  });
}

// Scores and rows are one for each token; rows of what is sent that nobody takes stay as they are.
void send_to_one_expert(program::StepProgram& program) {
  const auto narrow = [&](program::Operand operand) {
    program::Tensor& chosen = program.tensors[static_cast<std::size_t>(operand.tensor)];
    chosen.shape = {chosen.shape.rows(), 1};
    chosen.row_stride = 1;
  };
  change_ops(program, program::Op::kRoute, [&](program::Instruction& i) {
    narrow(i.out[0]);
    narrow(i.out[1]);
  });
  change_ops(program, program::Op::kRouteBackward,
             [&](program::Instruction& i) { narrow(i.in[0]); });
}

// Whole tensors of layers, or of the edges, that are in other units than adapters take no steps.
void leave_weights(program::StepProgram& program, bool per_layer) {
  for (program::Instruction& instruction : program.instructions) {
    if (!program::is_update(instruction.op)) continue;
    const program::Storage& storage = program.storage_of(instruction.update[0].tensor);
    const bool weights = storage.category == Category::kWeights;
    if (weights && (storage.copies.count > 1) == per_layer)
      instruction = {.op = program::Op::kMark};
  }
}

// In the order of kBatch's outputs.
struct BatchArrays {
  std::span<std::int32_t> ids, targets, document_start;
};

BatchArrays arrays_of(const std::array<executor::View, 8>& to) {
  const auto span = [](const executor::View& view) {
    FTPLAN_CHECK(static_cast<bool>(view));
    return std::span(view.as<std::int32_t>(), static_cast<std::size_t>(view.elements()));
  };
  return {span(to[0]), span(to[1]), span(to[3])};
}

void cross_documents(const BatchArrays& batch) {
  for (std::size_t t = 0; t + 1 < batch.targets.size(); ++t) {
    const bool next_begins = batch.document_start[t + 1] != batch.document_start[t];
    if (next_begins && batch.ids[t + 1] != 0) batch.targets[t] = batch.ids[t + 1];
  }
}

}  // namespace

void mutate_program(const std::string& name, program::StepProgram& program) {
  using namespace program;
  if (name == "adamw epsilon") change<AdamwAttributes>(program, [](auto& a) { a.epsilon *= 1e4; });
  if (name == "adamw beta2") change<AdamwAttributes>(program, [](auto& a) { a.beta2 = 0.99; });
  if (name == "half the momentum")
    change<SgdAttributes>(program, [](auto& a) { a.momentum *= 0.5; });
  if (name == "no weight decay") change_decay(program, [](double& decay) { decay = 0; });
  if (name == "decay on norms") {
    double largest = 0;
    change_decay(program, [&](double& decay) { largest = std::max(largest, decay); });
    change_decay(program, [&](double& decay) { decay = largest; });
  }
  if (name == "norm epsilon") change<NormAttributes>(program, [](auto& a) { a.epsilon *= 100; });
  if (name == "rope base") change<RopeAttributes>(program, [](auto& a) { a.theta *= 2; });
  if (name == "attention factor missing")
    change<RopeAttributes>(program, [](auto& a) { a.attention_factor = 1; });
  if (name == "length ignored")
    change<RopeAttributes>(program, [](auto& a) { a.original_positions = 1 << 20; });
  if (name == "yarn without its range")
    change<RopeAttributes>(program, [](auto& a) { a.scaling = RopeScaling::kLinear; });
  if (name == "range of whole frequencies")
    change<RopeAttributes>(program, [](auto& a) { a.truncated = true; });
  if (name == "short factors alone")
    change<RopeAttributes>(program, [](auto& a) { a.long_factors = a.short_factors; });
  if (name == "long factors alone")
    change<RopeAttributes>(program, [](auto& a) { a.short_factors = a.long_factors; });
  if (name == "wrong alpha") {
    change<LinearAttributes>(program, [](auto& a) { a.scale = a.scale == 1 ? 1 : a.scale * 1.1; });
  }
  if (name == "no clipping") change<ClipAttributes>(program, [](auto& a) { a.limit = 0; });
  if (name == "rotation not undone")
    change<RotateAttributes>(program, [](auto& a) { a.inverse = false; });
  if (name == "window off by one")
    change<AttentionAttributes>(program, [](auto& a) { a.window += a.window > 0 ? 1 : 0; });
  if (name == "window in every layer")
    change<AttentionAttributes>(program, [](auto& a) { a.window_first = 0, a.window_every = 1; });
  if (name == "attention cap missing")
    change<AttentionAttributes>(program, [](auto& a) { a.cap = 0; });
  if (name == "scores scaled by head size")
    change<AttentionAttributes>(program, [](auto& a) { a.scale = 0; });
  if (name == "logit cap missing") change<LossAttributes>(program, [](auto& a) { a.cap = 0; });
  if (name == "norm without one") change<NormAttributes>(program, [](auto& a) { a.offset = 0; });
  if (name == "embedding unscaled") change<EmbedAttributes>(program, [](auto& a) { a.scale = 1; });
  if (name == "no alibi") change<AttentionAttributes>(program, [](auto& a) { a.alibi = 0; });
  if (name == "alibi slope") change<AttentionAttributes>(program, [](auto& a) { a.alibi *= 1.1; });
  if (name == "heads not in groups")
    change<GroupAttributes>(program, [](auto& a) { a.groups = 1; });
  if (name == "norm's weight and bias swapped") {
    change_ops(program, Op::kLayerNorm, [](Instruction& i) { std::swap(i.in[1], i.in[2]); });
  }
  if (name == "parallel norm lost") lose_parallel_norms(program);
  if (name == "biases lost") {
    change_ops(program, Op::kLinear, [](Instruction& i) { i.in[2] = {}; });
  }
  if (name == "parts in another order") {
    change_ops(program, Op::kAttention, [](Instruction& i) { std::swap(i.in[1], i.in[2]); });
  }
  if (name == "gate and up swapped") {
    change_ops(program, Op::kGatedSilu, [](Instruction& i) { std::swap(i.in[0], i.in[1]); });
  }
  if (name == "one expert a token") send_to_one_expert(program);
  if (name == "scores' gradient lost") {
    change_ops(program, Op::kRouteBackward,
               [](Instruction& i) { i = {.op = Op::kZero, .out = i.out}; });
  }
  if (name == "head norms lost") {
    for (Instruction* norm : head_norms(program)) norm->op = Op::kCopy;
  }
  if (name == "head norms swapped") {
    const auto norms = head_norms(program);
    for (std::size_t i = 0; i + 1 < norms.size(); i += 2)
      std::swap(norms[i]->in[1], norms[i + 1]->in[1]);
  }
  if (name == "head's adapter lost")
    change<LossAttributes>(program, [](auto& a) { a.adapter_scale = 0; });
  if (name == "embedding stays") leave_weights(program, /*per_layer=*/false);
  if (name == "saved norms stay") leave_weights(program, /*per_layer=*/true);
  if (name == "no threshold") change<Int8Attributes>(program, [](auto& a) { a.threshold = 1e9; });
  if (name == "scales of another linear") {
    Instruction* last = nullptr;
    change_ops(program, Op::kLinearInt8, [&](Instruction& i) {
      const bool alike = last != nullptr && program.tensor(last->in[2]).shape.elements() ==
                                                program.tensor(i.in[2]).shape.elements();
      if (alike) std::swap(last->in[2], i.in[2]);
      last = alike ? nullptr : &i;
    });
  }
  if (name == "no window") change<AttentionAttributes>(program, [](auto& a) { a.window = 0; });
  if (name == "residual gradient lost") {
    for (const Op op : {Op::kRmsNormBackward, Op::kLayerNormBackward}) {
      change_ops(program, op,
                 [](Instruction& i) { i.accumulate &= static_cast<std::uint8_t>(~1U); });
    }
  }
  if (name == "accumulation overwrites") {
    change_ops(program, Op::kLinearWeightGradient, [](Instruction& i) { i.accumulate = 0; });
  }
}

void mutate_input(const std::string& name, executor::StepInput& input) {
  // No bias correction: as if infinitely many steps had been.
  if (name == "no bias correction") input.step += 1'000'000;
  if (name == "mean of means") input.target_tokens = input.target_tokens * 11 / 10;
  if (name == "late warm-up") input.learning_rate *= 0.9;
}

executor::FillBatch mutate_batch(const std::string& name, const executor::FillBatch& fill) {
  if (name != "documents see each other" && name != "targets cross documents") return fill;
  return [name, &fill](std::int32_t micro_step, const std::array<executor::View, 8>& to) {
    fill(micro_step, to);
    const BatchArrays batch = arrays_of(to);
    if (name == "targets cross documents") cross_documents(batch);
    if (name == "documents see each other") std::ranges::fill(batch.document_start, 0);
  };
}

}  // namespace ftplan::parity

#include "program/op_table.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>

#include "core/enums.h"
#include "core/machine.h"
#include "core/units.h"
#include "program/op.h"
#include "program/ops/add.h"
#include "program/ops/attention.h"
#include "program/ops/collective.h"
#include "program/ops/dropout.h"
#include "program/ops/eager.h"
#include "program/ops/elementwise.h"
#include "program/ops/embed.h"
#include "program/ops/experts.h"
#include "program/ops/gated_silu.h"
#include "program/ops/gelu.h"
#include "program/ops/generation.h"
#include "program/ops/layer_norm.h"
#include "program/ops/linear.h"
#include "program/ops/linear_int8.h"
#include "program/ops/linear_nf4.h"
#include "program/ops/loss.h"
#include "program/ops/optimizer.h"
#include "program/ops/rms_norm.h"
#include "program/ops/rotate.h"
#include "program/ops/split.h"
#include "program/ops/transfer.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

std::array<OpRow, kOps> make_table() {
  std::array<OpRow, kOps> table{};
  const auto set = [&](Op op, const OpRow& row) { table[static_cast<std::size_t>(op)] = row; };
  set(Op::kEmbed, embed_row());
  set(Op::kEmbedBackward, embed_backward_row());
  set(Op::kRmsNorm, rms_norm_row());
  set(Op::kRmsNormApply, rms_norm_apply_row());
  set(Op::kRmsNormBackward, rms_norm_backward_row());
  set(Op::kLayerNorm, layer_norm_row());
  set(Op::kLayerNormApply, layer_norm_apply_row());
  set(Op::kLayerNormBackward, layer_norm_backward_row());
  set(Op::kLinear, linear_row());
  set(Op::kLinearAccumulate, linear_accumulate_row());
  set(Op::kLinearInputGradient, linear_input_gradient_row());
  set(Op::kLinearWeightGradient, linear_weight_gradient_row());
  set(Op::kBiasGradient, bias_gradient_row());
  set(Op::kSplit, split_row());
  set(Op::kSplitGroups, split_groups_row());
  set(Op::kJoinGroups, join_groups_row());
  set(Op::kLinearNf4, linear_nf4_row());
  set(Op::kLinearNf4InputGradient, linear_nf4_input_gradient_row());
  set(Op::kLinearInt8, linear_int8_row());
  set(Op::kLinearInt8InputGradient, linear_int8_input_gradient_row());
  set(Op::kRotate, rotate_row());
  set(Op::kRoute, route_row());
  set(Op::kRouteBackward, route_backward_row());
  set(Op::kDispatch, dispatch_row());
  set(Op::kDispatchBackward, dispatch_backward_row());
  set(Op::kExpertLinear, expert_linear_row());
  set(Op::kExpertInputGradient, expert_input_gradient_row());
  set(Op::kExpertWeightGradient, expert_weight_gradient_row());
  set(Op::kCombine, combine_row());
  set(Op::kCombineBackward, combine_backward_row());
  set(Op::kAttention, attention_row());
  set(Op::kAttentionBackward, attention_backward_row());
  set(Op::kGatedSilu, gated_silu_row());
  set(Op::kGatedSiluBackward, gated_silu_backward_row());
  set(Op::kGatedGelu, gated_gelu_row());
  set(Op::kGatedGeluBackward, gated_gelu_backward_row());
  set(Op::kGelu, gelu_row());
  set(Op::kGeluBackward, gelu_backward_row());
  set(Op::kAdd, add_row());
  set(Op::kDropout, dropout_row());
  set(Op::kDropoutBackward, dropout_backward_row());
  set(Op::kCast, cast_row());
  set(Op::kCopy, copy_row());
  set(Op::kZero, zero_row());
  set(Op::kLinearCrossEntropy, linear_cross_entropy_row());
  set(Op::kLinearLoss, linear_loss_row());
  set(Op::kSquareSum, square_sum_row());
  set(Op::kClip, clip_row());
  set(Op::kAdamw, adamw_row());
  set(Op::kAdamw8bit, adamw8bit_row());
  set(Op::kSgd, sgd_row());
  set(Op::kReduceScatter, reduce_scatter_row());
  set(Op::kAllGather, all_gather_row());
  set(Op::kAllReduce, all_reduce_row());
  set(Op::kSend, send_row());
  set(Op::kReceive, receive_row());
  set(Op::kMark, mark_row());
  set(Op::kAppendCache, append_cache_row());
  set(Op::kTakeLast, take_last_row());
  set(Op::kNextToken, next_token_row());
  set(Op::kBatch, batch_row());
  set(Op::kRopeTable, rope_table_row());
  set(Op::kLoad, load_row());
  set(Op::kLoadNf4, load_nf4_row());
  set(Op::kLoadInt8, load_int8_row());
  set(Op::kInitAdapter, init_adapter_row());
  set(Op::kStore, store_row());
  set(Op::kEager, eager_row());
  set(Op::kEagerBackward, eager_backward_row());
  return table;
}

// `2048x4096:bf16`, with the row stride when rows are apart and `+` when it is added to.
void append_tensor(std::string& key, const Tensor& tensor, bool accumulate) {
  for (int axis = 0; axis < tensor.shape.rank(); ++axis) {
    key += (axis == 0 ? " " : "x") + std::to_string(tensor.shape[axis]);
  }
  if (!tensor.contiguous()) key += "/" + std::to_string(tensor.row_stride);
  key += std::string(":") + to_text(tensor.dtype) + (accumulate ? "+" : "");
}

}  // namespace

const OpRow& row_of(Op op) {
  static const std::array<OpRow, kOps> table = make_table();
  return table[static_cast<std::size_t>(op)];
}

Cost cost_of(const OpView& view) {
  Cost cost{.flops = row_of(view.instruction.op).flops(view)};
  const Instruction& instruction = view.instruction;
  const auto bytes = [&](Operand operand) {
    return operand ? view.program.tensor(operand).extent() : Bytes{};
  };
  for (const Operand& in : instruction.in) cost.moved += bytes(in);
  for (const Operand& both : instruction.update) cost.moved += 2 * bytes(both);
  for (int i = 0; i < instruction.out.size(); ++i) {
    const bool adds = ((instruction.accumulate >> i) & 1) != 0;
    cost.moved += (adds ? 2 : 1) * bytes(instruction.out[i]);
  }
  return cost;
}

std::string scratch_key(const OpView& view) {
  const Instruction& instruction = view.instruction;
  std::string key = name_of(instruction.op);
  for (const Operand& in : instruction.in) {
    if (in) append_tensor(key, view.program.tensor(in), false);
  }
  key += " ->";
  for (const Operand& both : instruction.update)
    append_tensor(key, view.program.tensor(both), true);
  for (int i = 0; i < instruction.out.size(); ++i) {
    if (!instruction.out[i]) continue;
    append_tensor(key, view.out(i), ((instruction.accumulate >> i) & 1) != 0);
  }
  return key;
}

const MeasuredScratch* find_scratch(const Machine& machine, const std::string& key) {
  const auto found = std::lower_bound(machine.scratch.begin(), machine.scratch.end(), key,
                                      [](const MeasuredScratch& entry, const std::string& wanted) {
                                        return entry.operation < wanted;
                                      });
  return found != machine.scratch.end() && found->operation == key ? &*found : nullptr;
}

}  // namespace ftplan::program

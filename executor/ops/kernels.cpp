#include "executor/kernels.h"

#include <cstddef>

#include "executor/ops/simd.h"
#include "program/op.h"

#define FTPLAN_TEXT_OF(name) #name
#define FTPLAN_TEXT(name) FTPLAN_TEXT_OF(name)

namespace ftplan::executor::FTPLAN_ISA {
namespace {

Kernels make_kernels() {
  using program::Op;
  Kernels table{.instruction_set = FTPLAN_TEXT(FTPLAN_ISA)};
  const auto set = [&](Op op, Kernel kernel) { table.run[static_cast<std::size_t>(op)] = kernel; };
  set(Op::kEmbed, embed);
  set(Op::kEmbedBackward, embed_backward);
  set(Op::kRmsNorm, rms_norm);
  set(Op::kRmsNormApply, rms_norm_apply);
  set(Op::kRmsNormBackward, rms_norm_backward);
  set(Op::kLayerNorm, layer_norm);
  set(Op::kLayerNormApply, layer_norm_apply);
  set(Op::kLayerNormBackward, layer_norm_backward);
  set(Op::kLinear, linear);
  set(Op::kLinearAccumulate, linear_accumulate);
  set(Op::kLinearInputGradient, linear_input_gradient);
  set(Op::kLinearWeightGradient, linear_weight_gradient);
  set(Op::kBiasGradient, bias_gradient);
  set(Op::kLinearNf4, linear_nf4);
  set(Op::kLinearNf4InputGradient, linear_nf4_input_gradient);
  set(Op::kLinearInt8, linear_int8);
  set(Op::kLinearInt8InputGradient, linear_int8_input_gradient);
  set(Op::kRotate, rotate);
  set(Op::kRoute, route);
  set(Op::kRouteBackward, route_backward);
  set(Op::kDispatch, dispatch);
  set(Op::kDispatchBackward, dispatch_backward);
  set(Op::kExpertLinear, expert_linear);
  set(Op::kExpertInputGradient, expert_input_gradient);
  set(Op::kExpertWeightGradient, expert_weight_gradient);
  set(Op::kCombine, combine);
  set(Op::kCombineBackward, combine_backward);
  set(Op::kAttention, attention);
  set(Op::kAttentionBackward, attention_backward);
  set(Op::kGatedSilu, gated_silu);
  set(Op::kGatedSiluBackward, gated_silu_backward);
  set(Op::kGatedGelu, gated_gelu);
  set(Op::kGatedGeluBackward, gated_gelu_backward);
  set(Op::kGelu, gelu);
  set(Op::kGeluBackward, gelu_backward);
  set(Op::kSplitGroups, split_groups);
  set(Op::kJoinGroups, join_groups);
  set(Op::kAdd, add);
  set(Op::kDropout, dropout);
  set(Op::kDropoutBackward, dropout_backward);
  set(Op::kCast, cast);
  set(Op::kCopy, copy);
  set(Op::kZero, zero);
  set(Op::kLinearCrossEntropy, linear_cross_entropy);
  set(Op::kLinearLoss, linear_loss);
  set(Op::kSquareSum, square_sum);
  set(Op::kClip, clip);
  set(Op::kAdamw, adamw);
  set(Op::kAdamw8bit, adamw8bit);
  set(Op::kSgd, sgd);
  set(Op::kAppendCache, append_cache);
  set(Op::kTakeLast, take_last);
  set(Op::kNextToken, next_token);
  set(Op::kRopeTable, rope_table);
  return table;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels table = make_kernels();
  return table;
}

}  // namespace ftplan::executor::FTPLAN_ISA

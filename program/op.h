#pragma once

#include <cstdint>

namespace ftplan::program {

/// Every operation a program can hold. Its row in `op_table.h` says everything else about it.
enum class Op : std::uint8_t {
  kEmbed,
  kEmbedBackward,
  kRmsNorm,
  kRmsNormApply,
  kRmsNormBackward,
  kLayerNorm,
  kLayerNormApply,
  kLayerNormBackward,
  kLinear,
  kLinearAccumulate,
  kLinearInputGradient,
  kLinearWeightGradient,
  kBiasGradient,
  kSplit,
  kSplitGroups,
  kJoinGroups,
  kLinearNf4,
  kLinearNf4InputGradient,
  kLinearInt8,
  kLinearInt8InputGradient,
  kRotate,
  kAttention,
  kAttentionBackward,
  kGatedSilu,
  kGatedSiluBackward,
  kGatedGelu,
  kGatedGeluBackward,
  kGelu,
  kGeluBackward,
  kRoute,
  kRouteBackward,
  kDispatch,
  kDispatchBackward,
  kExpertLinear,
  kExpertInputGradient,
  kExpertWeightGradient,
  kCombine,
  kCombineBackward,
  kAdd,
  kDropout,
  kDropoutBackward,
  kCast,
  kCopy,
  kZero,
  kBatch,
  kLinearCrossEntropy,
  kLinearLoss,
  kSquareSum,
  kClip,
  kAdamw,
  kAdamw8bit,
  kSgd,
  kReduceScatter,
  kAllGather,
  kAllReduce,
  kSend,
  kReceive,
  kMark,
  kAppendCache,
  kTakeLast,
  kNextToken,
  kRopeTable,
  kLoad,
  kLoadNf4,
  kLoadInt8,
  kInitAdapter,
  kStore,
  kEager,
  kEagerBackward,
};
inline constexpr int kOps = 69;

/// Whether update[0] are weights that take their step, update[1...] states.
constexpr bool is_update(Op op) {
  return op == Op::kAdamw || op == Op::kAdamw8bit || op == Op::kSgd;
}

}  // namespace ftplan::program

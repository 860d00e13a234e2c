#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/enums.h"
#include "core/fields.h"
#include "core/linear_value.h"

namespace ftplan {

enum class Method : std::uint8_t { kFull, kLora, kQlora, kInt8Lora };
template <>
inline constexpr auto names<Method> =
    std::array{Name{Method::kFull, "full"}, Name{Method::kLora, "lora"},
               Name{Method::kQlora, "qlora"}, Name{Method::kInt8Lora, "int8-lora"}};

/// As people write it.
constexpr std::string_view title_of(Method method) {
  switch (method) {
    case Method::kFull:
      return "full";
    case Method::kLora:
      return "LoRA";
    case Method::kQlora:
      return "QLoRA";
    case Method::kInt8Lora:
      return "int8 LoRA";
  }
  return "?";
}

/// Whether the frozen linears of the layers are stored in fewer bits than 16.
constexpr bool is_quantized(Method method) {
  return method == Method::kQlora || method == Method::kInt8Lora;
}

/// `bf16`, `fp16`: weights and gradients in that type, f32 masters for trained weights, f32
/// adapters. `bf16-pure`: no masters. `*-mixed`: f32 weights and 16-bit compute, as other trainers
/// do. `auto`: bf16, or fp16 where the device has no units for bf16; no valid job has it.
enum class Precision : std::uint8_t {
  kAuto,
  kFp32,
  kBf16,
  kFp16,
  kBf16Pure,
  kBf16Mixed,
  kFp16Mixed
};
template <>
inline constexpr auto names<Precision> =
    std::array{Name{Precision::kAuto, "auto"},           Name{Precision::kFp32, "fp32"},
               Name{Precision::kBf16, "bf16"},           Name{Precision::kFp16, "fp16"},
               Name{Precision::kBf16Pure, "bf16-pure"},  Name{Precision::kBf16Mixed, "bf16-mixed"},
               Name{Precision::kFp16Mixed, "fp16-mixed"}};

/// Of weights and activations.
constexpr DType dtype_of(Precision precision) {
  switch (precision) {
    case Precision::kFp16:
    case Precision::kFp16Mixed:
      return DType::kF16;
    case Precision::kFp32:
      return DType::kF32;
    default:
      return DType::kBf16;
  }
}

enum class Optimizer : std::uint8_t { kAdamw, kAdamw8bit, kPagedAdamw8bit, kSgd };
template <>
inline constexpr auto names<Optimizer> =
    std::array{Name{Optimizer::kAdamw, "adamw"}, Name{Optimizer::kAdamw8bit, "adamw8bit"},
               Name{Optimizer::kPagedAdamw8bit, "paged-adamw8bit"}, Name{Optimizer::kSgd, "sgd"}};

/// What the product of an adapter's matrices is multiplied with.
inline double lora_scale(double alpha, double rank, bool rslora) {
  return alpha / (rslora ? std::sqrt(rank) : rank);
}

/// What is trained, and in which numbers.
struct MethodOptions {
  Method method = Method::kLora;
  std::int64_t rank = 16;
  double alpha = 32;
  double dropout = 0;
  bool rslora = false;
  std::vector<std::string> targets = {"all-linear"};
  std::vector<LinearValue> rank_pattern, alpha_pattern;  ///< for linears that differ
  std::vector<std::int64_t> layers_to_transform;         ///< adapted ones; empty: all
  std::vector<std::string> modules_to_save;              ///< trained in full beside the adapters
  bool ensure_weight_tying = false;
  bool double_quantization = true;
  Precision precision = Precision::kAuto;
  Optimizer optimizer = Optimizer::kAdamw;

  friend bool operator==(const MethodOptions&, const MethodOptions&) = default;
};

template <>
inline constexpr auto fields<MethodOptions> = std::tuple{
    Field{"method", &MethodOptions::method,
          "What is trained; qlora keeps the frozen linears in 4 bits, int8-lora in 8."},
    Field{"rank", &MethodOptions::rank, "values", Range{1, 1 << 14}, "LoRA rank."},
    Field{"alpha", &MethodOptions::alpha, "", Range{0, 1e6},
          "LoRA alpha: adapters are scaled by alpha / rank."},
    Field{"dropout", &MethodOptions::dropout, "", Range{0, 0.99},
          "LoRA dropout on adapter inputs."},
    Field{"rslora", &MethodOptions::rslora, "Scale adapters by alpha / sqrt(rank)."},
    Field{"targets", &MethodOptions::targets,
          "Adapted linears, such as q_proj,v_proj, or all-linear (all but the head); also "
          "embed_tokens and lm_head."},
    Field{"rank_pattern", &MethodOptions::rank_pattern,
          "Ranks of linears that differ, such as q_proj=8."},
    Field{"alpha_pattern", &MethodOptions::alpha_pattern,
          "Alphas of linears that differ, such as q_proj=16."},
    Field{"layers_to_transform", &MethodOptions::layers_to_transform, "", Range{0, 1 << 20},
          "Layers that are adapted, counted from 0; all when left out."},
    Field{"modules_to_save", &MethodOptions::modules_to_save,
          "Modules trained in full beside adapters: embed_tokens, lm_head, norms."},
    Field{"ensure_weight_tying", &MethodOptions::ensure_weight_tying,
          "Train a tied embedding and head in modules_to_save as the one tensor they are."},
    Field{"double_quantization", &MethodOptions::double_quantization,
          "Whether qlora quantizes the scales of its 4-bit blocks too."},
    Field{
        "precision", &MethodOptions::precision,
        "Element type of weights and compute; auto: bf16, or fp16 on a GPU without units for it."},
    Field{"optimizer", &MethodOptions::optimizer, "Update rule."}};

}  // namespace ftplan

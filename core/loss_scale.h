#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/method.h"

/// Dynamic loss scaling: gradients that would be too small for fp16 are made `scale` times larger,
/// and a step whose gradients then are not finite is left out.
/// @source PyTorch 2.11 amp/grad_scaler.py, GradScaler; aten/src/ATen/native/cuda/AmpKernels.cu,
/// amp_update_scale
namespace ftplan {

/// The numbers of steps and factors are those of torch's GradScaler.
struct LossScale {
  float scale = 65536;
  std::int64_t clean_steps = 0;  ///< updates since the scale has changed or a step was left out
  std::int64_t skipped = 0;      ///< steps that were left out since the run began

  /// After a step: grows after 2,000 updates in a row, halves where gradients were not finite.
  void update(bool gradients_finite);
  /// So often halved in vain that smaller gradients are not what is missing.
  [[nodiscard]] bool exhausted() const { return scale < 0x1p-8F; }

  friend bool operator==(const LossScale&, const LossScale&) = default;
};

/// Whether gradients of this type need it: the exponents of bf16 are those of f32.
constexpr bool scales_loss(Precision precision) { return precision == Precision::kFp16; }

/// As checkpoints hold it: bit by bit, always of one length.
std::string to_text(const LossScale& value);
std::optional<LossScale> parse_text(std::string_view text, LossScale*);

}  // namespace ftplan

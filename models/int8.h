#pragma once

#include <cstdint>
#include <span>

/// Weights of LLM.int8, bit for bit as bitsandbytes 0.50 makes and reads them on a CPU.
///
/// A row of a matrix, all inputs of one output, is rounded to fp16 and stored as 8-bit codes with
/// one f32 scale: its largest magnitude. Inputs of a product are cut into rows in the same way,
/// but for columns with an outlier, which stay as they are.
///
/// @source Dettmers et al. 2022, arXiv:2208.07339, section 3;
///   bitsandbytes 0.50.0 backends/default/ops.py and _ops.py
namespace ftplan::models {

/// Inputs of at least this magnitude are outliers.
/// @source transformers 5.23 utils/quantization_config.py, llm_int8_threshold
inline constexpr float kInt8Threshold = 6.0F;
/// 1 / 127: of a code times its scale.
inline constexpr float kInt8Step = 7.874015718698502e-3F;
/// 1 / 127^2: of a product of codes times both scales, with bitsandbytes' digits.
inline constexpr float kInt8ProductStep = 6.200124e-05F;

/// By which values of a row are multiplied; torch divides a number by a tensor in two steps.
/// @source PyTorch 2.11 torch/_tensor.py, __rtruediv__
constexpr float int8_factor(float absmax) { return absmax > 0 ? 1.0F / absmax * 127.0F : 0.0F; }

/// The largest magnitude of `values` as fp16; infinite or NaN where one of them is.
float int8_absmax(std::span<const float> values);

/// codes = values as fp16 * int8_factor(absmax), rounded to even.
/// @pre absmax is that of the row, and finite
void quantize_int8(std::span<const float> values, float absmax, std::span<std::int8_t> codes);

/// value = code * absmax / 127.
void dequantize_int8(std::span<const std::int8_t> codes, float absmax, std::span<float> values);

}  // namespace ftplan::models

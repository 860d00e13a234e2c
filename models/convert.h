#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/dtype.h"

/// Conversions between f32 and the two 16-bit types, rounded to nearest even, as IEEE 754 and
/// LibTorch do. Without branches, so that loops over them become vector code.
namespace ftplan::models {

/// The element types that weights may have.
constexpr bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBf16 || dtype == DType::kF16;
}

constexpr float bf16_to_f32(std::uint16_t value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

/// NaN stays NaN: it must not round to infinity.
constexpr std::uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = bits + 0x7FFFU + ((bits >> 16) & 1U);
  const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  return static_cast<std::uint16_t>(is_nan ? 0x7FC0U : rounded >> 16);
}

constexpr float f16_to_f32(std::uint16_t value) {
  constexpr std::uint32_t kRebias = 112U << 23;
  const std::uint32_t sign = (value & 0x8000U) << 16;
  const std::uint32_t magnitude = (value & 0x7FFFU) << 13;
  const std::uint32_t beyond = magnitude >= 0x7C00U << 13 ? kRebias : 0;  // infinity and NaN
  const std::uint32_t normal = magnitude + kRebias + beyond;
  // Subnormal halves count steps of 2^-24, the last bit of floats from 2^-14 on.
  const float steps = std::bit_cast<float>(magnitude + (113U << 23)) - 0x1p-14F;
  const auto subnormal = std::bit_cast<std::uint32_t>(steps);
  return std::bit_cast<float>((magnitude < 0x400U << 13 ? subnormal : normal) | sign);
}

constexpr std::uint16_t f32_to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  const std::uint32_t beyond = magnitude > 0x7F800000U ? 0x7E00U : 0x7C00U;  // NaN, infinity
  // Adding 0.5 puts the last bit of a subnormal half, 2^-24, at that of the sum, which then rounds.
  const float aligned = std::bit_cast<float>(magnitude) + 0.5F;
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(aligned) - 0x3F000000U;
  const std::uint32_t odd = (magnitude >> 13) & 1U;
  const std::uint32_t normal = (magnitude - 0x38000000U + 0xFFFU + odd) >> 13;
  const std::uint32_t within = magnitude < 0x38800000U ? subnormal : normal;
  // From 65520 to 65536 normal numbers round to infinity.
  const std::uint32_t half = magnitude >= 0x47800000U ? beyond : within;
  return static_cast<std::uint16_t>(half | sign);
}

/// `values[i]` of the elements in `bytes`, which need not be aligned.
/// @pre `is_float(dtype)`, and as many elements as values
void to_f32(std::span<const std::byte> bytes, DType dtype, std::span<float> values);

/// The reverse.
void from_f32(std::span<const float> values, DType dtype, std::span<std::byte> bytes);

}  // namespace ftplan::models

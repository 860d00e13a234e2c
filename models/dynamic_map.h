#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

/// 8-bit blockwise quantization, bit for bit as bitsandbytes 0.50 does it on a CPU: of optimizer
/// states, and of the scales of 4-bit weights.
///
/// A value is stored as the number of the nearest of 256 fixed values, after division by the
/// largest magnitude of its block, `absmax`. The fixed values are dense near 0 and sparse near 1.
///
/// @source Dettmers 2015, arXiv:1511.04561; Dettmers et al. 2021, arXiv:2110.02861, section 2;
///   bitsandbytes 0.50.0 functional.py, create_dynamic_map, and csrc/cpu_ops.cpp
namespace ftplan::models {

inline constexpr std::int64_t kDynamicBlock = 256;

/// Blocks of a tensor of some elements; the last may be a part of one.
constexpr std::int64_t dynamic_blocks(std::int64_t elements) {
  return (elements + kDynamicBlock - 1) / kDynamicBlock;
}

/// 256 ascending values and, by point of a grid over [-1, 1], the code of the nearest.
struct DynamicMap {
  std::array<float, 256> values{};
  std::array<std::uint8_t, 65536> codes{};
};

/// From -0.993 to 1, with 0.
const DynamicMap& signed_dynamic_map();
/// From 0 to 1.
const DynamicMap& unsigned_dynamic_map();

/// Codes of a block; returns its absmax. A block of zeros has absmax 0 and codes 0; codes of what
/// is not finite mean nothing.
float quantize_block(std::span<const float> values, const DynamicMap& map,
                     std::span<std::uint8_t> codes);

/// value = map[code] * absmax, in f32.
void dequantize_block(std::span<const std::uint8_t> codes, float absmax, const DynamicMap& map,
                      std::span<float> values);

}  // namespace ftplan::models

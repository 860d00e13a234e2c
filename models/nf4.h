#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "models/dynamic_map.h"

/// 4-bit NormalFloat weights, bit for bit as bitsandbytes 0.50 makes and reads them on a CPU.
///
/// The row-major values of a matrix are cut into blocks of 64. A value is stored as the number of
/// the nearest of 16 fixed values, after division by the largest magnitude of its block, `absmax`.
/// With double quantization the absmax of 256 blocks, less the mean of all, are stored the same
/// way: an 8-bit number in a dynamic map (`models/dynamic_map.h`), and one f32 for all of them.
///
/// @source Dettmers et al. 2023, arXiv:2305.14314, section 3 and appendix E;
///   bitsandbytes 0.50.0 backends/default/ops.py, backends/cpu/ops.py and csrc/cpu_ops.cpp
namespace ftplan::models {

inline constexpr std::int64_t kNf4Block = 64;

/// @source bitsandbytes 0.50.0 functional.py, get_4bit_type("nf4")
inline constexpr std::array<float, 16> kNf4Values = {
    -1.0F,
    -0.6961928009986877F,
    -0.5250730514526367F,
    -0.39491748809814453F,
    -0.28444138169288635F,
    -0.18477343022823334F,
    -0.09105003625154495F,
    0.0F,
    0.07958029955625534F,
    0.16093020141124725F,
    0.24611230194568634F,
    0.33791524171829224F,
    0.44070982933044434F,
    0.5626170039176941F,
    0.7229568362236023F,
    1.0F,
};

/// Lengths of what a quantized tensor of some elements consists of: 0.5625 bytes an element with
/// f32 absmax; with double quantization 0.515869, and 4 bytes for the mean.
struct Nf4Counts {
  std::int64_t packed = 0;  ///< bytes of two values, the first in the upper half
  std::int64_t blocks = 0;
  std::int64_t nested = 0;  ///< blocks of absmax
};
constexpr Nf4Counts nf4_counts(std::int64_t elements) {
  const std::int64_t blocks = (elements + kNf4Block - 1) / kNf4Block;
  return {(elements + 1) / 2, blocks, dynamic_blocks(blocks)};
}

/// Packs `values`, which begin at a block and end at one or with the tensor. Of a block that has a
/// value that is not finite, absmax is not finite either.
/// @pre lengths are those of `nf4_counts(values.size())`
void quantize_nf4(std::span<const float> values, std::span<std::uint8_t> packed,
                  std::span<float> absmax);

/// value = kNf4Values[code] * absmax of its block, in f32.
void dequantize_nf4(std::span<const std::uint8_t> packed, std::span<const float> absmax,
                    std::span<float> values);

/// Mean of f32 values with the sums in torch's order on one thread.
/// @source PyTorch 2.11 aten/src/ATen/native/cpu/SumKernel.cpp, the path for contiguous f32
float mean_of(std::span<const float> values);

/// Codes and scales of `absmax - offset`, a whole tensor or blocks of `kDynamicBlock` of it.
/// @pre all are finite
void quantize_absmax(std::span<const float> absmax, float offset, std::span<std::uint8_t> codes,
                     std::span<float> nested);

/// absmax[i] = map[codes[i]] * nested[i / 256] + offset, each step rounded to f32.
void dequantize_absmax(std::span<const std::uint8_t> codes, std::span<const float> nested,
                       float offset, std::span<float> absmax);

}  // namespace ftplan::models

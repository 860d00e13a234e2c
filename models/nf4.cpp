#include "models/nf4.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/check.h"
#include "models/dynamic_map.h"

// Note [Same bits as bitsandbytes]
// 4-bit codes count the midpoints below x * (1 / absmax), with midpoints rounded to f32. A block
// that is not full divides by absmax instead, and keeps absmax at 1e-38 or more.

namespace ftplan::models {
namespace {

constexpr float kLeastAbsmax = 1e-38F;

constexpr std::array<float, 15> kMidpoints = [] {
  std::array<float, 15> midpoints{};
  for (std::size_t i = 0; i < midpoints.size(); ++i)
    midpoints[i] = (kNf4Values[i] + kNf4Values[i + 1]) / 2;
  return midpoints;
}();

using Block = std::array<float, static_cast<std::size_t>(kNf4Block)>;

// Codes of a block of values in [-1, 1]. A NaN is above all midpoints.
void pack(const Block& scaled, std::span<std::uint8_t> packed) {
  std::array<std::int32_t, kNf4Block> codes{};
  for (const float midpoint : kMidpoints) {
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] += scaled[i] <= midpoint ? 0 : 1;
  }
  for (std::size_t i = 0; i < packed.size(); ++i)
    packed[i] = static_cast<std::uint8_t>(codes[2 * i] << 4 | codes[2 * i + 1]);
}

// As bits, in whose order a NaN is above infinity.
float largest(std::span<const float> values) {
  std::int32_t most = 0;
  for (const float value : values)
    most = std::max(most, std::bit_cast<std::int32_t>(value) & 0x7FFFFFFF);
  return std::bit_cast<float>(most);
}

// ---- torch's sum ----

// Four levels of sums of 2^power rows each, so that only sums of like size are added.
template <std::size_t kWidth>
std::array<float, kWidth> sum_of_rows(const float* rows, std::int64_t count) {
  constexpr std::size_t kLevels = 4;
  const auto log2 =
      count <= 1 ? 0 : static_cast<int>(std::bit_width(static_cast<std::uint64_t>(count - 1)));
  const int power = std::max(4, log2 / static_cast<int>(kLevels));
  const std::int64_t step = std::int64_t{1} << power;
  std::array<std::array<float, kWidth>, kLevels> sums{};
  const auto add_row = [&](std::int64_t row) {
    const float* values = rows + row * static_cast<std::int64_t>(kWidth);
    for (std::size_t k = 0; k < kWidth; ++k) sums[0][k] += values[k];
  };
  std::int64_t row = 0;
  while (row + step <= count) {
    for (std::int64_t i = 0; i < step; ++i) add_row(row++);
    for (std::size_t level = 1; level < kLevels; ++level) {
      for (std::size_t k = 0; k < kWidth; ++k) {
        sums[level][k] += sums[level - 1][k];
        sums[level - 1][k] = 0;
      }
      if ((row & ((step - 1) << (static_cast<int>(level) * power))) != 0) break;
    }
  }
  while (row < count) add_row(row++);
  for (std::size_t level = 1; level < kLevels; ++level) {
    for (std::size_t k = 0; k < kWidth; ++k) sums[0][k] += sums[level][k];
  }
  return sums[0];
}

}  // namespace

void quantize_nf4(std::span<const float> values, std::span<std::uint8_t> packed,
                  std::span<float> absmax) {
  const Nf4Counts counts = nf4_counts(static_cast<std::int64_t>(values.size()));
  FTPLAN_CHECK(static_cast<std::int64_t>(packed.size()) == counts.packed &&
               static_cast<std::int64_t>(absmax.size()) == counts.blocks);
  constexpr auto kSize = static_cast<std::size_t>(kNf4Block);
  for (std::size_t block = 0; block < absmax.size(); ++block) {
    const auto from = values.subspan(block * kSize, std::min(kSize, values.size() - block * kSize));
    const bool full = from.size() == kSize;
    float most = largest(from);
    const float scale = most < kLeastAbsmax ? kLeastAbsmax : most;
    if (!full) most = scale;
    absmax[block] = most;
    Block scaled{};  // an odd count is padded with a zero
    const float inverse = 1.0F / scale;
    for (std::size_t i = 0; i < from.size(); ++i)
      scaled[i] = std::clamp(full ? from[i] * inverse : from[i] / scale, -1.0F, 1.0F);
    pack(scaled, packed.subspan(block * kSize / 2, (from.size() + 1) / 2));
  }
}

void dequantize_nf4(std::span<const std::uint8_t> packed, std::span<const float> absmax,
                    std::span<float> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const unsigned pair = packed[i / 2];
    const unsigned code = i % 2 == 0 ? pair >> 4U : pair & 15U;
    values[i] = kNf4Values[code] * absmax[i / static_cast<std::size_t>(kNf4Block)];
  }
}

float mean_of(std::span<const float> values) {
  // Vectors of 8, four of them side by side.
  constexpr std::size_t kVector = 8;
  constexpr std::size_t kSideBySide = 4;
  const auto count = static_cast<std::int64_t>(values.size());
  const std::int64_t vectors = count / static_cast<std::int64_t>(kVector);
  const std::int64_t rows = vectors / static_cast<std::int64_t>(kSideBySide);
  const auto wide = sum_of_rows<kVector * kSideBySide>(values.data(), rows);
  std::array<float, kVector> vector{};
  std::copy_n(wide.begin(), kVector, vector.begin());
  for (std::int64_t v = rows * static_cast<std::int64_t>(kSideBySide); v < vectors; ++v) {
    for (std::size_t k = 0; k < kVector; ++k)
      vector[k] += values[static_cast<std::size_t>(v) * kVector + k];
  }
  for (std::size_t side = 1; side < kSideBySide; ++side) {
    for (std::size_t k = 0; k < kVector; ++k) vector[k] += wide[side * kVector + k];
  }
  float sum = 0;
  for (std::size_t i = static_cast<std::size_t>(vectors) * kVector; i < values.size(); ++i)
    sum += values[i];
  for (const float part : vector) sum += part;
  return sum / static_cast<float>(count);
}

void quantize_absmax(std::span<const float> absmax, float offset, std::span<std::uint8_t> codes,
                     std::span<float> nested) {
  FTPLAN_CHECK(codes.size() == absmax.size());
  std::array<float, static_cast<std::size_t>(kDynamicBlock)> centred{};
  for (std::size_t block = 0; block < nested.size(); ++block) {
    const std::size_t begin = block * centred.size();
    const std::size_t count = std::min(centred.size(), absmax.size() - begin);
    for (std::size_t i = 0; i < count; ++i) centred[i] = absmax[begin + i] - offset;
    nested[block] = quantize_block(std::span(centred).first(count), signed_dynamic_map(),
                                   codes.subspan(begin, count));
    FTPLAN_CHECK(std::isfinite(nested[block]));
  }
}

void dequantize_absmax(std::span<const std::uint8_t> codes, std::span<const float> nested,
                       float offset, std::span<float> absmax) {
  for (std::size_t block = 0; block < nested.size(); ++block) {
    const std::size_t begin = block * static_cast<std::size_t>(kDynamicBlock);
    const auto part = codes.subspan(
        begin, std::min(static_cast<std::size_t>(kDynamicBlock), codes.size() - begin));
    dequantize_block(part, nested[block], signed_dynamic_map(), absmax.subspan(begin));
    for (std::size_t i = 0; i < part.size(); ++i) absmax[begin + i] += offset;
  }
}

}  // namespace ftplan::models

#include "models/dynamic_map.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/check.h"

// Note [A grid, as bitsandbytes on a CPU]
// x / absmax in [-1, 1] is rounded to one of 65,536 points, and a point has the code of the
// midpoints below it. So small values, 0 among them, share codes that a search among the midpoints
// themselves, as bitsandbytes does on GPUs, would tell apart; by less than 2e-5 of the block's
// scale.

namespace ftplan::models {
namespace {

constexpr std::int64_t kGrid = 65536;

// From both ends, a product is added to without rounding in between.
// @source PyTorch 2.11 aten/src/ATen/native/cpu/RangeFactoriesKernel.cpp, linspace_kernel
std::vector<float> linspace(float start, float end, std::int64_t steps) {
  const double step = (end - start) / static_cast<float>(steps - 1);
  std::vector<float> values;
  for (std::int64_t i = 0; i < steps; ++i) {
    values.push_back(static_cast<float>(i < steps / 2
                                            ? start + step * static_cast<double>(i)
                                            : end - step * static_cast<double>(steps - i - 1)));
  }
  return values;
}

enum class Sign : std::uint8_t { kSigned, kUnsigned };

DynamicMap make_map(Sign sign) {
  const bool is_signed = sign == Sign::kSigned;
  std::vector<float> values = {0, 1};
  for (int exponent = 0; exponent < 7; ++exponent) {
    // The bit that a sign would take doubles the values of each power.
    const auto intervals = std::int64_t{1} << (is_signed ? exponent : exponent + 1);
    const std::vector<float> bounds = linspace(0.1F, 1.0F, intervals + 1);
    const auto power = static_cast<float>(std::pow(10.0, exponent - 6));
    for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
      const float value = power * ((bounds[i] + bounds[i + 1]) / 2);
      values.push_back(value);
      if (is_signed) values.push_back(-value);
    }
  }
  std::sort(values.begin(), values.end());
  DynamicMap map;
  FTPLAN_CHECK(values.size() == map.values.size());
  std::copy(values.begin(), values.end(), map.values.begin());
  std::size_t code = 0;
  for (std::int64_t i = 0; i < kGrid; ++i) {
    const float point = -1.0F + 2.0F * static_cast<float>(i) / static_cast<float>(kGrid - 1);
    while (code + 1 < values.size() && 0.5F * (values[code] + values[code + 1]) < point) ++code;
    map.codes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(code);
  }
  return map;
}

// The nearest point of the grid, the first for a NaN: 0 / absmax where absmax has no inverse. The
// product is added to without rounding in between.
std::size_t grid_point(float value) {
  const float half = (std::clamp(value, -1.0F, 1.0F) + 1.0F) * 0.5F;
  if (!(half >= 0)) return 0;
  const double exact = static_cast<double>(half) * (kGrid - 1) + 0.5;
  return static_cast<std::size_t>(static_cast<float>(exact));
}

}  // namespace

const DynamicMap& signed_dynamic_map() {
  static const DynamicMap map = make_map(Sign::kSigned);
  return map;
}

const DynamicMap& unsigned_dynamic_map() {
  static const DynamicMap map = make_map(Sign::kUnsigned);
  return map;
}

float quantize_block(std::span<const float> values, const DynamicMap& map,
                     std::span<std::uint8_t> codes) {
  FTPLAN_CHECK(codes.size() == values.size());
  float absmax = 0;
  for (const float value : values) absmax = std::max(absmax, std::abs(value));
  if (absmax == 0) {
    std::fill(codes.begin(), codes.end(), std::uint8_t{0});
    return absmax;
  }
  const float inverse = 1.0F / absmax;
  for (std::size_t i = 0; i < values.size(); ++i)
    codes[i] = map.codes[grid_point(values[i] * inverse)];
  return absmax;
}

void dequantize_block(std::span<const std::uint8_t> codes, float absmax, const DynamicMap& map,
                      std::span<float> values) {
  for (std::size_t i = 0; i < codes.size(); ++i) values[i] = map.values[codes[i]] * absmax;
}

}  // namespace ftplan::models

#include "models/int8.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/check.h"
#include "models/convert.h"

namespace ftplan::models {
namespace {

float as_f16(float value) { return f16_to_f32(f32_to_f16(value)); }

}  // namespace

float int8_absmax(std::span<const float> values) {
  float most = 0;
  for (const float value : values) {
    const float magnitude = std::abs(as_f16(value));
    if (!(magnitude <= most)) most = magnitude;
    if (std::isnan(most)) break;
  }
  return most;
}

void quantize_int8(std::span<const float> values, float absmax, std::span<std::int8_t> codes) {
  FTPLAN_CHECK(values.size() == codes.size());
  const float scale = int8_factor(absmax);
  for (std::size_t i = 0; i < values.size(); ++i)
    codes[i] = static_cast<std::int8_t>(std::nearbyint(as_f16(values[i]) * scale));
}

void dequantize_int8(std::span<const std::int8_t> codes, float absmax, std::span<float> values) {
  FTPLAN_CHECK(values.size() == codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i)
    values[i] = static_cast<float>(codes[i]) * absmax * kInt8Step;
}

}  // namespace ftplan::models

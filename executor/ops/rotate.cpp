#include <cmath>
#include <cstdint>
#include <numbers>

#include "core/model_config.h"
#include "executor/call.h"
#include "executor/ops/simd.h"
#include "program/attributes.h"

namespace ftplan::executor::FTPLAN_ISA {

void rotate(Call& call) {
  const auto& a = call.attributes<program::RotateAttributes>();
  const View table = call.in[0];
  const auto* positions = call.in[1].as<std::int32_t>();
  const View t = call.update[0];
  const std::int64_t half = a.head_size / 2;
  const float sign = a.inverse ? -1.0F : 1.0F;
  with_type(t.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t r = 0; r < t.rows(); ++r) {
      const float* cosines = row_of<float>(table, positions[r]);
      const float* sines = cosines + half;
      for (std::int64_t h = 0; h < a.heads; ++h) {
        T* first = row_of<T>(t, r) + h * a.head_size;
        T* second = first + half;
#pragma omp simd
        for (std::int64_t i = 0; i < half; ++i) {
          const float x = widen(first[i]);
          const float y = widen(second[i]);
          const float s = sign * sines[i];
          narrow(x * cosines[i] - y * s, first[i]);
          narrow(y * cosines[i] + x * s, second[i]);
        }
      }
    }
  });
}

namespace {

// Llama 3 stretches low frequencies, keeps high ones, and blends between.
// @source transformers 5.23 modeling_rope_utils.py, _compute_llama3_parameters
float llama3_frequency(float frequency, const program::RopeAttributes& a) {
  const auto old_length = static_cast<float>(a.original_positions);
  const auto low = static_cast<float>(a.low_frequency_factor);
  const auto high = static_cast<float>(a.high_frequency_factor);
  const auto factor = static_cast<float>(a.factor);
  const float wavelength = 2.0F * static_cast<float>(std::numbers::pi) / frequency;
  if (wavelength < old_length / high) return frequency;
  if (wavelength > old_length / low) return frequency / factor;
  const float smooth = (old_length / wavelength - low) / (high - low);
  return (1.0F - smooth) * frequency / factor + smooth * frequency;
}

}  // namespace

void rope_table(Call& call) {
  const auto& a = call.attributes<program::RopeAttributes>();
  const View table = call.out[0];
  const std::int64_t half = a.head_size / 2;
  for (std::int64_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(a.head_size);
    float frequency = 1.0F / std::pow(static_cast<float>(a.theta), exponent);
    if (a.scaling == RopeScaling::kLinear) frequency /= static_cast<float>(a.factor);
    if (a.scaling == RopeScaling::kLlama3) frequency = llama3_frequency(frequency, a);
    for (std::int64_t position = 0; position < table.rows(); ++position) {
      const float angle = static_cast<float>(position) * frequency;
      float* row = row_of<float>(table, position);
      row[i] = std::cos(angle);
      row[half + i] = std::sin(angle);
    }
  }
}

}  // namespace ftplan::executor::FTPLAN_ISA

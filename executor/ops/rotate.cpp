#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>

#include "core/check.h"
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
  const std::int64_t half = a.rotated / 2;
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

constexpr std::int64_t kMostFrequencies = 1 << 11;

// Llama 3 stretches low frequencies, keeps high ones, and blends between.
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

// The index of the frequency that turns so often within the original positions.
double index_of_turns(double turns, const program::RopeAttributes& a) {
  const double wavelength = static_cast<double>(a.original_positions) / turns;
  return static_cast<double>(a.size) * std::log(wavelength / (2 * std::numbers::pi)) /
         (2 * std::log(a.theta));
}

// YaRN keeps frequencies before a range of indices, stretches those after it, and blends inside.
float yarn_frequency(std::int64_t index, float power, const program::RopeAttributes& a) {
  double low = index_of_turns(a.fast_turns, a);
  double high = index_of_turns(a.slow_turns, a);
  if (a.truncated) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(a.size - 1));
  if (low == high) high += 0.001;
  const float ramp = std::clamp(
      (static_cast<float>(index) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0F,
      1.0F);
  const float kept = 1.0F - ramp;
  return 1.0F / (static_cast<float>(a.factor) * power) * (1.0F - kept) + 1.0F / power * kept;
}

// The base with which documents of `length` tokens fit into the original positions.
float dynamic_base(std::int64_t length, const program::RopeAttributes& a) {
  const auto theta = static_cast<float>(a.theta);
  if (length <= a.original_positions) return theta;
  const auto factor = static_cast<float>(a.factor);
  const float stretch =
      factor * static_cast<float>(length) / static_cast<float>(a.original_positions) -
      (factor - 1.0F);
  const auto size = static_cast<float>(a.size);
  return theta * std::pow(stretch, size / (size - 2.0F));
}

// Of documents with `length` tokens.
// @source transformers 5.23 modeling_rope_utils.py, ROPE_INIT_FUNCTIONS
float frequency_of(std::int64_t index, std::int64_t length, const program::RopeAttributes& a) {
  const bool dynamic = a.scaling == RopeScaling::kDynamic;
  const float base = dynamic ? dynamic_base(length, a) : static_cast<float>(a.theta);
  const float exponent = static_cast<float>(2 * index) / static_cast<float>(a.size);
  const float power = std::pow(base, exponent);
  switch (a.scaling) {
    case RopeScaling::kNone:
    case RopeScaling::kDynamic:
      return 1.0F / power;
    case RopeScaling::kLinear:
      return 1.0F / power / static_cast<float>(a.factor);
    case RopeScaling::kLlama3:
      return llama3_frequency(1.0F / power, a);
    case RopeScaling::kYarn:
      return yarn_frequency(index, power, a);
    case RopeScaling::kLongrope: {
      const auto& factors = length > a.original_positions ? a.long_factors : a.short_factors;
      return 1.0F / (static_cast<float>(factors[static_cast<std::size_t>(index)]) * power);
    }
  }
  FTPLAN_CHECK(false);
}

}  // namespace

void rope_table(Call& call) {
  const auto& a = call.attributes<program::RopeAttributes>();
  const View table = call.out[0];
  const View positions = call.in[0];
  std::span<const std::int32_t> read;
  std::int64_t length = 0;
  if (positions) {
    read = {positions.as<std::int32_t>(), static_cast<std::size_t>(positions.elements())};
    length = *std::max_element(read.begin(), read.end()) + 1;
  }
  const std::int64_t half = a.size / 2;
  FTPLAN_CHECK(half <= kMostFrequencies);
  std::array<float, kMostFrequencies> frequencies;
  for (std::int64_t i = 0; i < half; ++i)
    frequencies[static_cast<std::size_t>(i)] = frequency_of(i, length, a);
  const auto factor = static_cast<float>(a.attention_factor);
  const auto fill = [&](std::int64_t position) {
    float* row = row_of<float>(table, position);
    for (std::int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(position) * frequencies[static_cast<std::size_t>(i)];
      row[i] = std::cos(angle) * factor;
      row[half + i] = std::sin(angle) * factor;
    }
  };
  // A token that is decoded reads one row of a long table.
  const auto tokens = static_cast<std::int64_t>(read.size());
  if (positions && tokens < length) {
    for (const std::int32_t position : read) fill(position);
    return;
  }
  const std::int64_t rows = positions ? length : table.rows();
#pragma omp parallel for schedule(static) num_threads(call.threads)
  for (std::int64_t position = 0; position < rows; ++position) fill(position);
}

}  // namespace ftplan::executor::FTPLAN_ISA

#include "models/convert.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "core/check.h"
#include "core/dtype.h"

namespace ftplan::models {
namespace {

template <class Convert>
void widen(std::span<const std::byte> bytes, std::span<float> values, Convert convert) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint16_t half = 0;
    std::memcpy(&half, bytes.data() + i * sizeof half, sizeof half);
    values[i] = convert(half);
  }
}

template <class Convert>
void narrow(std::span<const float> values, std::span<std::byte> bytes, Convert convert) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t half = convert(values[i]);
    std::memcpy(bytes.data() + i * sizeof half, &half, sizeof half);
  }
}

void check_sizes(std::size_t bytes, DType dtype, std::size_t values) {
  FTPLAN_CHECK(is_float(dtype) && bytes == values * static_cast<std::size_t>(size_of(dtype).value));
}

}  // namespace

void to_f32(std::span<const std::byte> bytes, DType dtype, std::span<float> values) {
  check_sizes(bytes.size(), dtype, values.size());
  if (bytes.empty()) return;
  switch (dtype) {
    case DType::kBf16:
      return widen(bytes, values, [](auto half) { return bf16_to_f32(half); });
    case DType::kF16:
      return widen(bytes, values, [](auto half) { return f16_to_f32(half); });
    default:
      std::memcpy(values.data(), bytes.data(), bytes.size());
  }
}

void from_f32(std::span<const float> values, DType dtype, std::span<std::byte> bytes) {
  check_sizes(bytes.size(), dtype, values.size());
  if (bytes.empty()) return;
  switch (dtype) {
    case DType::kBf16:
      return narrow(values, bytes, [](auto value) { return f32_to_bf16(value); });
    case DType::kF16:
      return narrow(values, bytes, [](auto value) { return f32_to_f16(value); });
    default:
      std::memcpy(bytes.data(), values.data(), bytes.size());
  }
}

}  // namespace ftplan::models

#include "core/loss_scale.h"

#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace ftplan {
namespace {

constexpr float kGrowth = 2;
constexpr float kBackoff = 0.5;
constexpr std::int64_t kGrowthInterval = 2000;

constexpr std::size_t kBitDigits = 8;
constexpr std::size_t kCountDigits = 12;

template <class T>
bool read(std::string_view digits, int base, T& value) {
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  return read.ec == std::errc() && read.ptr == digits.data() + digits.size();
}

}  // namespace

void LossScale::update(bool gradients_finite) {
  if (!gradients_finite) {
    scale *= kBackoff;
    clean_steps = 0;
    ++skipped;
  } else if (++clean_steps == kGrowthInterval) {
    if (std::isfinite(scale * kGrowth)) scale *= kGrowth;
    clean_steps = 0;
  }
}

std::string to_text(const LossScale& value) {
  std::array<char, 48> text{};
  (void)std::snprintf(
      text.data(), text.size(), "%08x %012lld %012lld", std::bit_cast<std::uint32_t>(value.scale),
      static_cast<long long>(value.clean_steps), static_cast<long long>(value.skipped));
  return text.data();
}

std::optional<LossScale> parse_text(std::string_view text, LossScale* /*tag*/) {
  constexpr std::size_t kSecond = kBitDigits + 1;
  constexpr std::size_t kThird = kSecond + kCountDigits + 1;
  if (text.size() != kThird + kCountDigits) return std::nullopt;
  std::uint32_t bits = 0;
  LossScale value;
  if (!read(text.substr(0, kBitDigits), 16, bits) ||
      !read(text.substr(kSecond, kCountDigits), 10, value.clean_steps) ||
      !read(text.substr(kThird), 10, value.skipped))
    return std::nullopt;
  value.scale = std::bit_cast<float>(bits);
  if (!std::isfinite(value.scale) || value.scale <= 0) return std::nullopt;
  return value;
}

}  // namespace ftplan

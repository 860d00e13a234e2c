#pragma once

#include <compare>
#include <cstdint>

/// Quantities with their unit in the type, so that bytes cannot be added to seconds.
///
/// `Bytes` counts in 64 bits and is exact; the others are doubles. Only the products and quotients
/// that have a meaning are defined: `Bytes / BytesPerSecond` is `Seconds`.
namespace ftplan {

struct Bytes {
  std::int64_t value = 0;

  friend constexpr auto operator<=>(Bytes, Bytes) = default;
  constexpr Bytes& operator+=(Bytes other) { return value += other.value, *this; }
  constexpr Bytes& operator-=(Bytes other) { return value -= other.value, *this; }
  friend constexpr Bytes operator+(Bytes a, Bytes b) { return {a.value + b.value}; }
  friend constexpr Bytes operator-(Bytes a, Bytes b) { return {a.value - b.value}; }
  friend constexpr Bytes operator*(std::int64_t n, Bytes b) { return {n * b.value}; }
  friend constexpr Bytes operator*(Bytes b, std::int64_t n) { return {n * b.value}; }
};

inline constexpr Bytes kKiB{1 << 10};
inline constexpr Bytes kMiB{1 << 20};
inline constexpr Bytes kGiB{1 << 30};

/// `value` rounded up to a multiple of `step` (> 0).
constexpr std::int64_t round_up(std::int64_t value, std::int64_t step) {
  return (value + step - 1) / step * step;
}
constexpr Bytes round_up(Bytes bytes, Bytes step) { return {round_up(bytes.value, step.value)}; }

/// The smallest number of groups of `size` (> 0) that hold `count` things.
constexpr std::int64_t divide_up(std::int64_t count, std::int64_t size) {
  return (count + size - 1) / size;
}

struct Flops {
  double value = 0;
  friend constexpr auto operator<=>(Flops, Flops) = default;
  friend constexpr Flops operator+(Flops a, Flops b) { return {a.value + b.value}; }
};

struct Seconds {
  double value = 0;
  friend constexpr auto operator<=>(Seconds, Seconds) = default;
  friend constexpr Seconds operator+(Seconds a, Seconds b) { return {a.value + b.value}; }
};

struct BytesPerSecond {
  double value = 0;
  friend constexpr auto operator<=>(BytesPerSecond, BytesPerSecond) = default;
};

struct FlopsPerSecond {
  double value = 0;
  friend constexpr auto operator<=>(FlopsPerSecond, FlopsPerSecond) = default;
};

constexpr Seconds operator/(Bytes b, BytesPerSecond rate) {
  return {static_cast<double>(b.value) / rate.value};
}
constexpr Seconds operator/(Flops f, FlopsPerSecond rate) { return {f.value / rate.value}; }

}  // namespace ftplan

#include "data/permutation.h"

#include <bit>
#include <cstdint>

#include "core/check.h"
#include "data/mix.h"

namespace ftplan::data {
namespace {

constexpr unsigned kRounds = 6;

}  // namespace

Permutation::Permutation(std::int64_t size, std::uint64_t key)
    : size_(static_cast<std::uint64_t>(size)), key_(mix64(key + kGolden)) {
  FTPLAN_CHECK(size >= 1 && size_ <= (std::uint64_t{1} << 62U));
  const auto bits = static_cast<unsigned>(std::bit_width(size_ - 1));
  if (bits > 2) half_bits_ = (bits + 1) / 2;
}

std::int64_t Permutation::operator()(std::int64_t place) const {
  FTPLAN_CHECK(place >= 0 && static_cast<std::uint64_t>(place) < size_);
  auto value = static_cast<std::uint64_t>(place);
  do {
    value = once(value);
  } while (value >= size_);
  return static_cast<std::int64_t>(value);
}

std::uint64_t Permutation::once(std::uint64_t value) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t left = value >> half_bits_;
  std::uint64_t right = value & mask;
  for (unsigned round = 0; round < kRounds; ++round) {
    const std::uint64_t mixed = mix64(key_ ^ mix64(right + kGolden * (round + 1)));
    const std::uint64_t next = left ^ (mixed & mask);
    left = right;
    right = next;
  }
  return (left << half_bits_) | right;
}

}  // namespace ftplan::data

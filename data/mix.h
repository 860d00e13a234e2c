#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

/// Mixing of bits: for hash tables, and for the random orders that must be the same on every
/// machine.
namespace ftplan::data {

/// A bijection on 64 bits in which each input bit flips each output bit with probability near 1/2.
/// @source Steele, Lea and Flood 2014 ("SplitMix"), constants of Stafford's mix 13
constexpr std::uint64_t mix64(std::uint64_t x) {
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31U);
}

/// The golden ratio's bits: keeps successive counters apart before they are mixed.
inline constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15U;

/// A hash for tables in memory; never stored.
inline std::uint64_t hash_bytes(std::string_view bytes) {
  std::uint64_t state = kGolden ^ bytes.size();
  const char* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left > sizeof state; left -= sizeof state, at += sizeof state) {
    std::uint64_t word = 0;
    std::memcpy(&word, at, sizeof word);
    state = (state ^ word) * 0x94D049BB133111EBU;
    state ^= state >> 32U;
  }
  std::uint64_t tail = 0;
  std::memcpy(&tail, at, left);
  return mix64(state ^ tail);
}

}  // namespace ftplan::data

#pragma once

#include <cstdint>

namespace ftplan::data {

/// A random order of 0 .. size - 1 that takes no memory: each place is computed on its own, so that
/// every rank and every resumed run sees the same order. A Feistel network over the next power of
/// 4, with cycle walking: what falls outside is sent through again.
/// @source Luby and Rackoff 1988; Black and Rogaway 2002 ("Ciphers with Arbitrary Finite Domains")
class Permutation {
 public:
  /// @pre 1 <= size <= 2^62
  Permutation(std::int64_t size, std::uint64_t key);

  /// Which number stands at `place`; on average less than 4 rounds of the network.
  [[nodiscard]] std::int64_t operator()(std::int64_t place) const;

 private:
  [[nodiscard]] std::uint64_t once(std::uint64_t value) const;

  std::uint64_t size_;
  std::uint64_t key_;
  unsigned half_bits_ = 1;
};

}  // namespace ftplan::data

#pragma once

#include <array>
#include <cstdint>

namespace ftplan::executor::FTPLAN_ISA {

/// Four random words from a counter of four and a key of two.
/// @source Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", Philox4x32-10
struct Philox {
  std::uint32_t key0, key1;

  [[nodiscard]] std::array<std::uint32_t, 4> operator()(std::uint32_t c0, std::uint32_t c1,
                                                        std::uint32_t c2, std::uint32_t c3) const {
    std::uint32_t k0 = key0;
    std::uint32_t k1 = key1;
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t p0 = 0xD2511F53ULL * c0;
      const std::uint64_t p1 = 0xCD9E8D57ULL * c2;
      const auto n0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
      const auto n2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
      c1 = static_cast<std::uint32_t>(p1);
      c3 = static_cast<std::uint32_t>(p0);
      c0 = n0;
      c2 = n2;
      k0 += 0x9E3779B9U;
      k1 += 0xBB67AE85U;
    }
    return {c0, c1, c2, c3};
  }
};

}  // namespace ftplan::executor::FTPLAN_ISA

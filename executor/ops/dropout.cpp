#include <array>
#include <cstdint>

#include "executor/ops/simd.h"
#include "program/attributes.h"
#include "program/step_program.h"

namespace ftplan::executor::FTPLAN_ISA {
namespace {

// Four random words from a counter of four and a key of two.
// @source Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", Philox4x32-10
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

// y (+)= mask * x / (1 - p). The mask of a value depends on (seed, step, row, position, layer,
// site, channel) alone.
void apply(Call& call, const View& x, const View& row_ids, const View& y, bool accumulate) {
  const auto& a = call.attributes<program::DropoutAttributes>();
  const auto seed = static_cast<std::uint64_t>(call.scalar(program::Scalar::kSeed));
  const auto step = static_cast<std::uint32_t>(call.scalar(program::Scalar::kStep));
  const Philox random{static_cast<std::uint32_t>(seed),
                      static_cast<std::uint32_t>(seed >> 32) ^ step};
  const auto keep_below = static_cast<std::uint32_t>((1.0 - a.probability) * 4294967295.0);
  const auto scale = static_cast<float>(1.0 / (1.0 - a.probability));
  const std::int64_t sequence = x.rows() / row_ids.elements();
  const auto place =
      static_cast<std::uint32_t>(call.layer) << 8 | static_cast<std::uint32_t>(a.site);
  with_type(x.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      const auto row = static_cast<std::uint32_t>(row_ids.as<std::int32_t>()[r / sequence]);
      const auto position = static_cast<std::uint32_t>(r % sequence);
      const T* from = row_of<T>(x, r);
      T* to = row_of<T>(y, r);
      for (std::int64_t channel = 0; channel < x.width(); channel += 4) {
        const auto words = random(static_cast<std::uint32_t>(channel / 4), place, position, row);
        for (std::int64_t i = channel; i < channel + 4 && i < x.width(); ++i) {
          const float kept = words[static_cast<std::size_t>(i - channel)] < keep_below
                                 ? widen(from[i]) * scale
                                 : 0.0F;
          narrow((accumulate ? widen(to[i]) : 0.0F) + kept, to[i]);
        }
      }
    }
  });
}

}  // namespace

void dropout(Call& call) { apply(call, call.in[0], call.in[1], call.out[0], call.accumulates(0)); }
void dropout_backward(Call& call) {
  apply(call, call.in[0], call.in[1], call.out[0], call.accumulates(0));
}

}  // namespace ftplan::executor::FTPLAN_ISA

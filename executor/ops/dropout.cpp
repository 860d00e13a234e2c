#include <cstddef>
#include <cstdint>

#include "executor/call.h"
#include "executor/ops/philox.h"
#include "executor/ops/simd.h"
#include "program/attributes.h"
#include "program/step_program.h"

namespace ftplan::executor::FTPLAN_ISA {
namespace {

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
      static_cast<std::uint32_t>(call.model_layer()) << 8 | static_cast<std::uint32_t>(a.site);
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

#include "tests/parity/masks.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/check.h"
#include "executor/rank_run.h"
#include "executor/session.h"
#include "program/attributes.h"
#include "program/op.h"
#include "program/run_programs.h"

namespace ftplan::parity {
namespace {

std::vector<float> values_of(const executor::View& view) {
  FTPLAN_CHECK(view.dtype() == DType::kF32 && view.tensor->contiguous());
  const auto* begin = view.as<float>();
  return {begin, begin + view.elements()};
}

// FNV-1a over the bits of the mask.
void describe(const float* x, const float* y, Mask& mask) {
  mask.digest = 0xcbf29ce484222325ULL;
  for (std::int64_t i = 0; i < mask.elements; ++i) {
    const bool kept = y[i] != 0;
    mask.digest = (mask.digest ^ static_cast<std::uint64_t>(kept)) * 0x100000001b3ULL;
    mask.kept += kept ? 1 : 0;
    if (kept) mask.scale = std::max(mask.scale, std::abs(static_cast<double>(y[i]) / x[i]));
  }
}

}  // namespace

std::vector<Mask> observe_masks(executor::RankRun& run, std::int64_t length,
                                const executor::StepInput& input, const executor::FillBatch& fill) {
  executor::Session& session = run.session({program::ProgramKind::kTrain, length});
  executor::Scalars scalars = run.scalars_of(input);
  std::vector<Mask> masks;
  run.set_fill(&fill);
  for (std::size_t i = 0; i < session.walk().steps.size(); ++i) {
    const auto index = static_cast<std::int32_t>(i);
    executor::Scratch none;
    const executor::Call call = session.call_of(index, scalars, none);
    const bool drops = call.instruction.op == program::Op::kDropout;
    // The result may overwrite its input.
    const std::vector<float> before = drops ? values_of(call.in[0]) : std::vector<float>{};
    FTPLAN_CHECK(static_cast<bool>(session.execute(index, scalars)));
    if (!drops) continue;
    const std::vector<float> after = values_of(call.out[0]);
    const std::int64_t rows = call.in[1].elements();
    const std::int64_t size = call.out[0].elements() / rows;
    for (std::int64_t row = 0; row < rows; ++row) {
      Mask mask{.micro_step = session.walk().steps[i].micro_step,
                .layer = call.layer,
                .site = call.attributes<program::DropoutAttributes>().site,
                .row = call.in[1].as<std::int32_t>()[row],
                .elements = size};
      describe(before.data() + row * size, after.data() + row * size, mask);
      masks.push_back(mask);
    }
  }
  run.set_fill(nullptr);
  return masks;
}

}  // namespace ftplan::parity

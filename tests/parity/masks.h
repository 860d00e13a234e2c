#pragma once

#include <cstdint>
#include <vector>

#include "executor/rank_run.h"

/// What dropout did during a step, read off the values that it wrote.
namespace ftplan::parity {

/// One run of a dropout instruction.
struct Mask {
  std::int64_t micro_step = 0;
  std::int64_t layer = 0;
  std::int64_t site = 0;
  std::int64_t row = 0;       ///< slot in the global batch
  std::int64_t elements = 0;  ///< of that row
  std::int64_t kept = 0;      ///< of them not zero
  std::uint64_t digest = 0;   ///< of which were kept
  double scale = 0;           ///< largest |y / x| of those kept
};

/// Runs one optimizer step instruction by instruction and describes each mask, row by row.
std::vector<Mask> observe_masks(executor::RankRun& run, std::int64_t length,
                                const executor::StepInput& input, const executor::FillBatch& fill);

}  // namespace ftplan::parity

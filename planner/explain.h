#pragma once

#include <string>
#include <vector>

#include "core/plan.h"
#include "core/result.h"
#include "core/strategy.h"
#include "core/units.h"

/// What other choices would have cost.
namespace ftplan::planner {

/// A plan with one knob turned.
struct WhatIf {
  std::string flags;  ///< `--micro-batch 8`
  std::string note;   ///< what it costs besides bytes; may be empty
  Bytes peak;         ///< of the device
  Bytes difference;   ///< to the plan's peak
  Fits fits = Fits::kUnknown;
};

/// Each knob one step to either side, where the job allows that, in a fixed order.
/// @error the plan's job is not valid any more
Result<std::vector<WhatIf>> what_ifs(const Plan& plan);

}  // namespace ftplan::planner

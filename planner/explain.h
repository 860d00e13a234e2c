#pragma once

#include <vector>

#include "core/plan.h"
#include "core/result.h"
#include "core/what_if.h"

/// What other choices would have cost.
namespace ftplan::planner {

/// Each knob one step to either side, where the job allows that, in a fixed order.
/// @error the plan's job is not valid any more
Result<std::vector<WhatIf>> what_ifs(const Plan& plan);

}  // namespace ftplan::planner

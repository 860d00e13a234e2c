#pragma once

#include <vector>

#include "core/machine.h"
#include "core/result.h"
#include "executor/rank_run.h"

/// Scratch that no formula knows: measured by running each distinct operation.
namespace ftplan::executor {

/// Runs every distinct operation of the run whose scratch is not a formula, on the run's own
/// memory, and says what each used. @pre nothing is loaded yet: the memory's content is lost
/// @error infeasible: an operation needs more than was declared
Result<std::vector<MeasuredScratch>> measure_scratch(RankRun& run);

/// Runs the same operations and keeps nothing: whether each stays within what the plan declares.
/// @error infeasible, with the operation's name
Result<void> check_scratch(RankRun& run);

}  // namespace ftplan::executor

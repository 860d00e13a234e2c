#pragma once

#include <string>
#include <vector>

#include "program/step_program.h"

/// What every program must be, checked without trusting the passes that made it.
namespace ftplan::program {

/// The first thing that is wrong with `program`, or nothing.
///
/// - operands, shapes, types and views agree, and views lie inside their storages
/// - every input is defined, and its definition has ended before it is read
/// - no saved forward value is overwritten before the backward reads it
/// - once laid out: two storages share bytes only if every use of the first has ended before the
/// second is defined
/// - no result of the backward is replaced before it is read
/// - the gradient of every trained weight gets one contribution for each use in the forward
/// - every weight of the rank's shard is updated exactly once, after its whole gradient was reduced
/// exactly once
/// @complexity O(steps * operands * log storages)
std::string verify_program(const StepProgram& program);

/// As above for all ranks of a layout, and their collectives match in order, size, type and group,
/// every send meets its receive, and no rank waits for ever.
std::string verify_ranks(const std::vector<StepProgram>& ranks);

}  // namespace ftplan::program

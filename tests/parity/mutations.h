#pragma once

#include <string>

#include "executor/rank_run.h"
#include "program/step_program.h"

/// Wrong training steps, each of which the comparison with other trainers must notice.
namespace ftplan::parity {

/// Changes attributes of a lowered program; does nothing for the empty name and for those of
/// scalars.
void mutate_program(const std::string& name, program::StepProgram& program);

/// Changes what is written before a step.
void mutate_input(const std::string& name, executor::StepInput& input);

/// `fill`, and then changes to what it wrote. @param fill outlives the result
executor::FillBatch mutate_batch(const std::string& name, const executor::FillBatch& fill);

}  // namespace ftplan::parity

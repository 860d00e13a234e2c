#pragma once

#include <cstdint>

#include "core/layout_graph.h"
#include "program/step_program.h"

namespace ftplan::estimator {

/// The parts of a laid-out training program and what each holds.
///
/// What lives across steps adds up to the persistent bytes of the program: a weight that two parts
/// use counts for the first, and optimizer states for the optimizer. What is held at a time is the
/// work region at the part's fullest instant. `device`, `ranks` and `micro_steps` are left to the
/// caller.
LayoutGraph draw_layout(const program::StepProgram& program, std::int64_t rank);

}  // namespace ftplan::estimator

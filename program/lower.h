#pragma once

#include <string>
#include <vector>

#include "core/job.h"
#include "core/machine.h"
#include "core/result.h"
#include "core/strategy.h"
#include "program/lowering.h"
#include "program/step_program.h"

/// From what is wanted to what will run.
namespace ftplan::program {

/// Lowers one program of a run through all passes.
/// @error bad input for what is not built; in builds with assertions also a bug: what
/// `verify_program` found
Result<StepProgram> lower(const Job& job, const Strategy& strategy, const Machine& machine,
                          const ProgramRequest& request);

/// The state before the passes: for tests that run some of them, or with a runtime that has no
/// name.
Lowering begin_lowering(const Job& job, const Strategy& strategy, const Machine& machine,
                        const ProgramRequest& request, const RuntimeProfile* runtime = nullptr);

struct Pass {
  const char* name;
  Result<void> (*run)(Lowering&);
};
/// The passes of a training, evaluation or generation program, in their order.
const std::vector<Pass>& passes();

/// Digest of a laid-out program: equal when and only when estimate and run are about the same
/// thing.
std::string program_digest(const StepProgram& program);

}  // namespace ftplan::program

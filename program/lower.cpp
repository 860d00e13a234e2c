#include "program/lower.h"

#include <string>
#include <utility>
#include <vector>

#include "core/digest.h"
#include "core/dtype.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/method.h"
#include "core/result.h"
#include "core/stage.h"
#include "core/strategy.h"
#include "models/family.h"
#include "program/load_program.h"
#include "program/lowering.h"
#include "program/model_state.h"
#include "program/passes/passes.h"
#include "program/print.h"
#include "program/runtime.h"
#include "program/step_program.h"
#include "program/verify.h"  // IWYU pragma: keep: builds with assertions

namespace ftplan::program {

Lowering begin_lowering(const Job& job, const Strategy& strategy, const Machine& machine,
                        const ProgramRequest& request, const RuntimeProfile* runtime) {
  Lowering lowering{.job = job,
                    .strategy = strategy,
                    .machine = machine,
                    .request = request,
                    .stage = stage_of(strategy, job.model.layers, request.rank),
                    .blueprint = models::make_blueprint(job.model),
                    .runtime = runtime != nullptr ? *runtime : runtime_profile(job.request.runtime),
                    .rows = request.rows > 0 ? request.rows : strategy.micro_batch,
                    .sequence = request.sequence > 0 ? request.sequence : job.sequence};
  // More than most steps have, so that lists do not move while they grow.
  lowering.program.storages.reserve(256);
  lowering.program.tensors.reserve(512);
  lowering.program.instructions.reserve(768);
  lowering.compute = lowering.autocasts() ? DType::kF32 : dtype_of(job.request.method.precision);
  declare_state(lowering);
  return lowering;
}

const std::vector<Pass>& passes() {
  static const std::vector<Pass> all = {{"build_forward", build_forward},
                                        {"expand", expand},
                                        {"differentiate", differentiate},
                                        {"recompute", recompute},
                                        {"accumulate", accumulate},
                                        {"optimize", optimize},
                                        {"shard", shard},
                                        {"gather", gather},
                                        {"schedule", schedule},
                                        {"free_dead", free_dead},
                                        {"lay_out", lay_out}};
  return all;
}

Result<StepProgram> lower(const Job& job, const Strategy& strategy, const Machine& machine,
                          const ProgramRequest& request) {
  Lowering lowering = begin_lowering(job, strategy, machine, request);
  if (request.kind == ProgramKind::kLoad) build_load(lowering);
  if (request.kind == ProgramKind::kSave) build_save(lowering);
  const bool transfers = lowering.program.root != kNone;
  for (const Pass& pass : passes()) {
    const bool shapes =
        pass.run == gather || pass.run == schedule || pass.run == free_dead || pass.run == lay_out;
    if (transfers && !shapes) continue;
    if (auto ok = pass.run(lowering); !ok) return ok.error();
  }
#ifndef NDEBUG
  if (const std::string wrong = verify_program(lowering.program); !wrong.empty()) {
    return Error{ErrorCode::kBug, "program", wrong};
  }
#endif
  return std::move(lowering.program);
}

std::string program_digest(const StepProgram& program) { return digest(print(program)); }

}  // namespace ftplan::program

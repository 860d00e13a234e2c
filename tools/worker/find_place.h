#pragma once

#include <cstdint>
#include <optional>

#include "core/job.h"
#include "core/plan.h"
#include "core/result.h"
#include "executor/torch_group.h"
#include "tools/run_flags.h"

namespace ftplan::tools {

/// This process among the ranks of a run.
struct Place {
  std::optional<executor::Membership> membership;  ///< none: it is the only one
  std::int64_t local_ranks = 1;                    ///< on this host
};

/// From the environment, in which a launcher, ftplan or another, has put it.
/// @error bad input: it is one of others than the plan is for, or alone where there are several;
/// run failed: no such address
Result<Place> find_place(const Plan& plan, const Job& job, const RunFlags& flags);

}  // namespace ftplan::tools

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/data_options.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/plan.h"
#include "core/result.h"

/// From a request to all that planner and estimator ask for.
namespace ftplan::tools {

struct Resolved {
  Job job;
  Machine machine;
  std::optional<DataFacts> facts;
  std::vector<std::string> notes;  ///< for the user
};

/// Reads model, adapter, data, catalogue and host. On `cpu` the machine has the scratch that was
/// measured on this host.
Result<Resolved> resolve(JobRequest request);

/// Reads a plan file and checks its job again.
Result<Plan> load_plan(const std::string& path);

/// The job of a plan.
Result<Job> job_of(const Plan& plan);

}  // namespace ftplan::tools

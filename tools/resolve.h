#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/data_options.h"
#include "core/devices.h"
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
  std::string gpus;                ///< as the user wrote it; the job's has names resolved
};

/// Reads model, adapter, data, catalogue and host. On `cpu` the machine has the scratch that was
/// measured on this host. A node of the catalogue, or `this`, becomes its devices, host memory and
/// disk.
Result<Resolved> resolve(JobRequest request);

/// `--gpus this`: the GPUs of this machine, with the host memory that is free, else its CPU.
/// @param root see `gpu_names`
/// @error bad input: GPUs of several kinds, or that are not in the catalogue
Result<DeviceOptions> devices_of_this(DeviceOptions asked, const std::string& root = "");

/// Reads a plan file and checks its job again.
Result<Plan> load_plan(const std::string& path);

/// The job of a plan.
Result<Job> job_of(const Plan& plan);

}  // namespace ftplan::tools

#pragma once

#include <string>

#include "core/plan.h"
#include "core/result.h"
#include "tools/options.h"

/// The subcommands of `ftplan-worker`, one file each.
namespace ftplan::tools {

CommandRow run_command();
CommandRow eval_command();
CommandRow generate_command();
CommandRow calibrate_command();

/// The machine of this process with the scratch that was measured on it.
Result<Machine> worker_machine();

/// @error infeasible: the host has less memory free than the plan needs
Result<void> check_memory(const Plan& plan);

/// A path of a plan, as seen from this process: relative ones begin at the plan's folder.
std::string bind_path(const std::string& plan_file, const std::string& path);

}  // namespace ftplan::tools

#pragma once

#include <cstdint>
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
/// @param ranks of this host, which share its processors
Result<Machine> worker_machine(std::int64_t ranks = 1);

/// @param ranks of the plan that run on this host
/// @error infeasible: the host has less memory free than they need
Result<void> check_memory(const Plan& plan, std::int64_t ranks = 1);

/// Where errors go beside standard error: to a launcher that asked for them. True: it tells the
/// user.
bool tell_of_error(const Error& error);

/// A path of a plan, as seen from this process: relative ones begin at the plan's folder.
std::string bind_path(const std::string& plan_file, const std::string& path);

}  // namespace ftplan::tools

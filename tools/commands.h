#pragma once

#include <string>
#include <vector>

#include "tools/options.h"

/// The subcommands of `ftplan`, one file each.
namespace ftplan::tools {

CommandRow estimate_command();
CommandRow plan_command();
CommandRow data_command();
CommandRow report_command();
CommandRow simulate_command();
CommandRow explain_command();
CommandRow merge_command();
CommandRow convert_command();
CommandRow models_command();
CommandRow hardware_command();
CommandRow doctor_command();

/// Commands that ftplan-worker does, with what `--help` says of them.
struct WorkerCommand {
  const char* name;
  const char* help;
  const char* example;
};
const std::vector<WorkerCommand>& worker_commands();

/// `run`: starts the workers that do it, one for each rank of this host.
/// @param arguments all that ftplan was given
CommandRow start_run_command(const std::vector<std::string>& arguments);

/// To standard output.
void print(const std::string& text);

}  // namespace ftplan::tools

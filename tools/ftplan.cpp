#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "core/result.h"
#include "tools/commands.h"
#include "tools/guarded_main.h"
#include "tools/options.h"
#include "tools/spawn_worker.h"

namespace ftplan::tools {
namespace {

// Listed in the help; the worker reads its own flags.
class ListedOnly : public Command {
 public:
  void declare(Options& /*options*/) override {}
  Result<int> run() override { return 0; }
};

std::vector<CommandRow> all_commands() {
  std::vector<CommandRow> rows = {estimate_command(), plan_command()};
  for (const WorkerCommand& command : worker_commands()) {
    rows.push_back({command.name, command.help, command.example,
                    [] { return std::make_unique<ListedOnly>(); }});
  }
  for (const auto& make :
       {data_command, report_command, simulate_command, explain_command, merge_command,
        convert_command, models_command, hardware_command, doctor_command}) {
    rows.push_back(make());
  }
  return rows;
}

int run(const std::vector<std::string>& arguments) {
  const auto& workers = worker_commands();
  const bool for_worker =
      !arguments.empty() && std::any_of(workers.begin(), workers.end(), [&](const auto& command) {
        return arguments.front() == command.name;
      });
  if (!for_worker) return run_commands(all_commands(), arguments);
  if (arguments.front() == "run") return run_commands({start_run_command(arguments)}, arguments);
  const Result<int> code = spawn_worker(arguments);
  if (code.ok()) return *code;
  print_error(code.error());
  return exit_code(code.error().code);
}

}  // namespace
}  // namespace ftplan::tools

int main(int argc, char** argv) {
  return ftplan::tools::guarded_main(
      [&] { return ftplan::tools::run(std::vector<std::string>(argv + 1, argv + argc)); });
}

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/devices.h"
#include "core/plan.h"
#include "core/result.h"
#include "models/files.h"
#include "tools/commands.h"
#include "tools/environment.h"
#include "tools/launch.h"
#include "tools/options.h"
#include "tools/place.h"
#include "tools/run_flags.h"
#include "tools/spawn_worker.h"

namespace ftplan::tools {
namespace {

// Starts the ranks of this host; what they do is the worker's.
class StartRanks : public Command {
 public:
  explicit StartRanks(std::vector<std::string> arguments) : arguments_(std::move(arguments)) {}

  void declare(Options& options) override { flags_.declare(options); }

  Result<int> run() override {
    const auto local = local_ranks();
    if (!local) return local.error();
    if (!*local) return spawn_worker(arguments_);
    return launch_ranks(arguments_, **local);
  }

 private:
  // None: one process does it all, or says what is wrong.
  [[nodiscard]] Result<std::optional<LocalRanks>> local_ranks() const {
    const std::optional<LocalRanks> none;
    const auto text = models::read_text_file(flags_.plan);
    if (!text) return none;
    const auto plan = read_plan(*text, flags_.plan);
    if (!plan) return none;
    const auto devices = parse_devices(plan->job.devices.gpus);
    if (!devices || devices->name != "cpu" || devices->count() == 1) return none;
    const auto rank = launched_rank(environment_variable);
    if (!rank) return rank.error();
    if (*rank) return none;
    const auto node = launched_node(environment_variable);
    if (!node) return node.error();
    if (*node) return ranks_of(**node, *devices);
    if (devices->nodes > 1) {
      return bad_input("--gpus", "a plan for " + std::to_string(devices->nodes) +
                                     " nodes is started on each of them by torchrun, srun or "
                                     "mpirun");
    }
    return std::optional(LocalRanks{.count = devices->count(), .ranks = devices->count()});
  }

  [[nodiscard]] static Result<std::optional<LocalRanks>> ranks_of(const LaunchedNode& node,
                                                                  const DeviceLayout& devices) {
    const std::int64_t count = node.ranks_per_node.value_or(devices.count() / node.nodes);
    if (count * node.nodes != devices.count()) {
      return bad_input("PET_NNODES", std::to_string(node.nodes) + " nodes of " +
                                         std::to_string(count) + " ranks are not the plan's " +
                                         std::to_string(devices.count()) + " ranks");
    }
    return std::optional(LocalRanks{.first = node.node * count,
                                    .count = count,
                                    .ranks = devices.count(),
                                    .address = node.address,
                                    .port = node.port});
  }

  std::vector<std::string> arguments_;
  RunFlags flags_;
};

}  // namespace

CommandRow start_run_command(const std::vector<std::string>& arguments) {
  for (const WorkerCommand& command : worker_commands()) {
    if (std::string(command.name) != "run") continue;
    return {command.name, command.help, command.example,
            [arguments] { return std::make_unique<StartRanks>(arguments); }};
  }
  FTPLAN_CHECK(false);
}

}  // namespace ftplan::tools

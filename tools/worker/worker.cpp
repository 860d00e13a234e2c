// ftplan-worker: what needs LibTorch. `ftplan run`, `eval`, `generate` and `calibrate` start it.

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/machine.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/text.h"
#include "core/units.h"
#include "executor/kernels.h"
#include "executor/torch_runtime.h"
#include "models/files.h"
#include "tools/environment.h"
#include "tools/guarded_main.h"
#include "tools/host.h"
#include "tools/launch.h"
#include "tools/options.h"
#include "tools/scratch_cache.h"
#include "tools/worker/commands.h"

namespace ftplan::tools {
namespace {

// torchrun shows the error of the first rank that failed from the file that it has named.
// @source torch/distributed/elastic/multiprocessing/errors/error_handler.py of torch 2.11
void tell_torchrun(const Error& error) {
  const std::string file = environment_variable("TORCHELASTIC_ERROR_FILE");
  if (file.empty()) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const Json json = {
      {"message",
       {{"message", error.text()},
        {"extraInfo",
         {{"timestamp",
           std::to_string(std::chrono::duration_cast<std::chrono::seconds>(now).count())}}}}}};
  // Where it cannot be written standard error still has it.
  (void)models::write_text_file(file, json.dump());
}

}  // namespace

bool tell_of_error(const Error& error) {
  tell_torchrun(error);
  return report_to_launcher(error);
}

Result<Machine> worker_machine(std::int64_t ranks) {
  Machine machine = probe_host(ranks);
  if (executor::best_instruction_set().empty()) {
    return bad_input("cpu", "has neither AVX2 with FMA nor AVX-512: ftplan has no kernels for it");
  }
  machine.torch = executor::torch_version();
  auto scratch = load_scratch(cache_folder(), machine);
  if (!scratch) return scratch.error();
  machine.scratch = *std::move(scratch);
  return machine;
}

Result<void> check_memory(const Plan& plan, std::int64_t ranks) {
  const RankPrediction& p = plan.predicted.front();
  const Bytes wanted = ranks * (p.device.peak + p.host.peak);
  const auto free = available_memory();
  if (!free || wanted <= *free) return {};
  return Error{ErrorCode::kInfeasible, "memory",
               "the plan needs " + format_bytes(wanted) + ", this host has " + format_bytes(*free) +
                   " free: close other programs, or plan again with --memory"};
}

std::string bind_path(const std::string& plan_file, const std::string& path) {
  if (path.empty() || path.front() == '/') return path;
  return models::join_path(models::folder_of(plan_file), path);
}

}  // namespace ftplan::tools

int main(int argc, char** argv) {
  using namespace ftplan::tools;
  tell_errors_to(tell_of_error);
  return guarded_main([&] {
    return run_commands({run_command(), eval_command(), generate_command(), calibrate_command()},
                        std::vector<std::string>(argv + 1, argv + argc));
  });
}

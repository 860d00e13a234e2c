#include "executor/calibrate.h"

#include <cstdio>
#include <memory>
#include <string>

#include "core/plan.h"
#include "core/result.h"
#include "executor/rank_run.h"
#include "tools/environment.h"
#include "tools/options.h"
#include "tools/resolve.h"
#include "tools/scratch_cache.h"
#include "tools/worker/commands.h"

namespace ftplan::tools {
namespace {

class Calibrate : public Command {
 public:
  void declare(Options& options) override {
    options.argument({"plan", "FILE", "Plan whose operations are measured."}, plan_file_);
    options.toggle({"--quiet", "", "Prints nothing."}, quiet_);
  }

  Result<int> run() override {
    const auto plan = load_plan(plan_file_);
    if (!plan) return plan.error();
    const auto job = job_of(*plan);
    if (!job) return job.error();
    if (auto ok = check_memory(*plan); !ok) return ok.error();
    auto machine = worker_machine(job->devices.per_node);
    if (!machine) return machine.error();
    // Measured without what is known already, so that a new build of the library is noticed.
    machine->scratch.clear();
    auto rank = executor::RankRun::create(
        {.job = *job, .strategy = plan->strategy, .machine = *machine, .facts = plan->data});
    if (!rank) return rank.error();
    const auto measured = executor::measure_scratch(**rank);
    if (!measured) return measured.error();
    if (auto ok = save_scratch(cache_folder(), *machine, *measured); !ok) return ok.error();
    if (!quiet_) {
      std::printf("%zu operations measured: plan again, and their scratch is exact\n",
                  measured->size());
    }
    return 0;
  }

 private:
  std::string plan_file_;
  bool quiet_ = false;
};

}  // namespace

CommandRow calibrate_command() {
  return {"calibrate", "Measures what operations need on this machine.",
          "ftplan calibrate plan.json", [] { return std::make_unique<Calibrate>(); }};
}

}  // namespace ftplan::tools

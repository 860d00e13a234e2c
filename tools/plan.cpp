#include "core/plan.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include "core/category.h"
#include "core/enums.h"
#include "core/job.h"
#include "core/json.h"
#include "core/machine.h"
#include "core/result.h"
#include "core/strategy.h"
#include "core/text.h"
#include "core/units.h"
#include "data/chat_template.h"
#include "estimator/predict.h"
#include "models/files.h"
#include "planner/plan.h"
#include "reports/words.h"
#include "tools/commands.h"
#include "tools/environment.h"
#include "tools/job_flags.h"
#include "tools/options.h"
#include "tools/resolve.h"
#include "tools/scratch_cache.h"
#include "tools/spawn_worker.h"

namespace ftplan::tools {
namespace {

// A path as seen from the folder of the plan; absolute ones and names that are no files stay.
std::string seen_from(const std::string& folder, const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (path.empty() || fs::path(path).is_absolute() || !fs::exists(path, error)) return path;
  const fs::path relative =
      fs::relative(fs::absolute(path, error), fs::absolute(folder, error), error);
  return error || relative.empty() ? path : relative.string();
}

void make_relative(JobRequest& request, const std::string& plan_file) {
  const std::string folder = models::folder_of(plan_file);
  request.model = seen_from(folder, request.model);
  request.adapter = seen_from(folder, request.adapter);
  for (std::string& file : request.data.data) file = seen_from(folder, file);
  auto& shape = request.data.prompt_template;
  if (shape && !data::ChatTemplate::is_known(*shape)) shape = seen_from(folder, *shape);
}

class MakePlan : public Command {
 public:
  void declare(Options& options) override {
    flags_.declare(options);
    options.value({"-o,--output", "FILE", "Where the plan is written."}, output_);
    options.toggle({"--json", "", "Prints the plan instead of a summary."}, json_);
  }

  Result<int> run() override {
    auto request = flags_.read();
    if (!request) return request.error();
    auto resolved = resolve(*request);
    if (!resolved) return resolved.error();
    // What the run writes names its model as the plan does.
    if (output_) make_relative(resolved->job.request, *output_);
    auto made = planner::make_plan({resolved->job, resolved->machine, resolved->facts});
    if (!made) return made.error();
    // Another measurement may change the choice, and that what is to be measured; it ends with all
    // of it measured.
    for (int round = 0; round < 3 && measure_missing(*made, *resolved); ++round) {
      made = planner::make_plan({resolved->job, resolved->machine, resolved->facts});
      if (!made) return made.error();
    }
    if (const auto* answer = std::get_if<Infeasible>(&*made)) {
      print(json_ ? render_json(as_json(*answer)) : text_of(*answer));
      return exit_code(ErrorCode::kInfeasible);
    }
    return finish(std::get<Plan>(*std::move(made)), resolved->notes);
  }

 private:
  // Has the worker measure the scratch that the plan only bounds; false when there is nothing to
  // gain.
  static bool measure_missing(const std::variant<Plan, Infeasible>& made, Resolved& resolved) {
    const Plan* plan = std::get_if<Plan>(&made);
    const bool here =
        resolved.machine.backend == Backend::kCpu && resolved.job.request.runtime == "ftplan";
    if (plan == nullptr || !here || find_worker().empty()) return false;
    const auto wanted = estimator::operations_to_measure(
        {resolved.job, plan->strategy, resolved.machine, resolved.facts, plan->steps}, 0);
    if (!wanted.ok()) return false;
    const auto& known = resolved.machine.scratch;
    const bool complete =
        std::all_of(wanted->begin(), wanted->end(), [&](const std::string& operation) {
          return std::any_of(known.begin(), known.end(),
                             [&](const auto& entry) { return entry.operation == operation; });
        });
    if (complete) return false;
    std::error_code error;
    const auto folder = std::filesystem::temp_directory_path(error);
    const std::string file = (folder / ("ftplan-" + std::to_string(::getpid()) + ".json")).string();
    if (error || !models::write_text_file(file, render_plan(*plan)).ok()) return false;
    std::fputs("measuring what operations need on this machine, once\n", stderr);
    const auto code = spawn_worker({"calibrate", file, "--quiet"});
    std::filesystem::remove(file, error);
    if (!code.ok() || *code != 0) return false;
    auto scratch = load_scratch(cache_folder(), resolved.machine);
    if (!scratch.ok()) return false;
    resolved.machine.scratch = *std::move(scratch);
    return true;
  }

  Result<int> finish(const Plan& plan, const std::vector<std::string>& notes) const {
    if (output_) {
      if (auto written = models::write_text_file(*output_, render_plan(plan)); !written) {
        return write_error("--output", *output_, written.error());
      }
    }
    print(json_ ? render_plan(plan) : text_of(plan, notes));
    return 0;
  }

  [[nodiscard]] std::string text_of(const Plan& plan, const std::vector<std::string>& notes) const {
    // The rank that needs most stands for all.
    const RankPrediction& p = *std::max_element(
        plan.predicted.begin(), plan.predicted.end(),
        [](const auto& a, const auto& b) { return a.device.peak < b.device.peak; });
    std::string text = plan.model.name + ": " + to_text(plan.job.method.method) + ", " +
                       to_text(plan.job.method.precision) + ", micro-batch " +
                       std::to_string(plan.strategy.micro_batch) + " x " +
                       std::to_string(plan.strategy.accumulation) + ", checkpointing " +
                       to_text(plan.strategy.checkpointing);
    if (plan.layout.size() > 1) text += ", " + reports::describe_layout(plan.strategy);
    text += plan.steps > 0 ? ", " + std::to_string(plan.steps) + " steps\n" : "\n";
    text += "device " + format_bytes(p.device.peak) + " at the peak (" +
            (plan.predicted.size() > 1 ? "rank " + std::to_string(p.rank) + ", " : "") +
            p.peak_instruction + "), host " + format_bytes(p.host.peak) + ", disk " +
            format_bytes(p.disk.peak) + "\n";
    if (p.uncertainty > Bytes{}) {
      text += plan.machine.backend == Backend::kCpu
                  ? "scratch is a bound: the peak is up to " + format_bytes(p.uncertainty) +
                        " lower once ftplan calibrate has measured it\n"
                  : "the peak is a formula, +- " + format_bytes(p.uncertainty) + "\n";
    }
    for (const std::string& sentence : plan.why) text += sentence + "\n";
    for (const std::string& note : notes) text += "note: " + note + "\n";
    for (const RunnerUp& other : plan.runners_up) {
      text += "not chosen: micro-batch " + std::to_string(other.strategy.micro_batch) +
              ", checkpointing " + to_text(other.strategy.checkpointing) + ", " +
              format_bytes(other.peak) + ": " + other.lost_by + "\n";
    }
    return text + (output_ ? "Next:  ftplan run " + *output_ + "\n" : "");
  }

  static std::string text_of(const Infeasible& answer) {
    const Bytes need = answer.limit + answer.deficit;
    return "Does not fit: " + format_bytes(need) + " are needed, " + format_bytes(answer.limit) +
           " are there, " + format_bytes(answer.deficit) + " are missing (micro-batch " +
           std::to_string(answer.best_strategy.micro_batch) + ", checkpointing " +
           to_text(answer.best_strategy.checkpointing) +
           ").\nLargest part: " + to_text(answer.biggest_category) + ", " +
           format_bytes(answer.prediction.device[answer.biggest_category]) + " of " +
           format_bytes(answer.prediction.device.peak) +
           ".\nSmallest change that fits: " + answer.smallest_change + "\n";
  }

  static Json as_json(const Infeasible& answer) {
    return {{"format_version", 1},
            {"fits", "no"},
            {"strategy", to_json(answer.best_strategy)},
            {"predicted", to_json(answer.prediction)},
            {"limit_bytes", answer.limit.value},
            {"missing_bytes", answer.deficit.value},
            {"largest_category", to_text(answer.biggest_category)},
            {"smallest_change", answer.smallest_change}};
  }

  JobFlags flags_;
  std::optional<std::string> output_;
  bool json_ = false;
};

}  // namespace

CommandRow plan_command() {
  return {"plan", "The first layout that fits, or by how much none does and what would.",
          "ftplan plan --model llama3.2-1b --gpus cpu --data my.jsonl -o plan.json",
          [] { return std::make_unique<MakePlan>(); }};
}

}  // namespace ftplan::tools

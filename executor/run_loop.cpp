#include "executor/run_loop.h"

#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/job.h"
#include "core/json.h"
#include "core/machine.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/run_result.h"
#include "core/text.h"
#include "core/training.h"
#include "core/units.h"
#include "data/data_set.h"
#include "executor/calibrate.h"
#include "executor/checkpointing.h"
#include "executor/feeding.h"
#include "executor/kernels.h"
#include "executor/loader.h"
#include "executor/metrics.h"
#include "executor/process_memory.h"
#include "executor/rank_run.h"
#include "executor/results.h"
#include "executor/torch_runtime.h"
#include "models/family.h"
#include "models/files.h"
#include "program/lower.h"
#include "program/lowering.h"

namespace ftplan::executor {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr const char* kSlower = "try a lower --learning-rate";

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What the plan was made for must be what is here.
Result<void> check_digests(const Plan& plan, const Job& job, const data::DataSet& data,
                           const Machine& machine) {
  const std::string again = ": plan again with ftplan plan";
  if (job.ranks() > 1) {
    return bad_input(
        "--gpus", "running " + plan.job.devices.gpus + " is not built yet: plan with --gpus cpu");
  }
  if (machine.backend != Backend::kCpu) {
    return bad_input("--gpus",
                     "running on " + machine.name + " is not built yet: plan with --gpus cpu");
  }
  if (plan.job.runtime != "ftplan") {
    return bad_input("--runtime", "a plan for " + plan.job.runtime +
                                      " is an estimate of another trainer" + again);
  }
  if (models::weight_table_digest(job.model) != plan.digests.model) {
    return bad_input("plan", "its model's table of weights is not that of this version" + again);
  }
  if (plan.data && data.facts.digest != plan.data->digest) {
    return bad_input("plan", "the data has changed since it was made" + again);
  }
  if (machine.instruction_set != best_instruction_set()) {
    return bad_input("plan", "was made for " + machine.instruction_set + ", this machine has " +
                                 best_instruction_set() + again);
  }
  if (machine.torch != torch_version()) {
    return bad_input(
        "plan", "was made for LibTorch " + machine.torch + ", this is " + torch_version() + again);
  }
  return {};
}

// Files that lie beside each other.
PlaceBytes sum_of(PlaceBytes bytes, const PlaceBytes& other) {
  for (std::size_t c = 0; c < kCategories; ++c) {
    bytes[static_cast<Category>(c)] += other[static_cast<Category>(c)];
  }
  bytes.unused += other.unused;
  bytes.peak += other.peak;
  return bytes;
}

class RunLoop {
 public:
  RunLoop(const Plan& plan, const Job& job, const data::DataSet& data, const RunOptions& options)
      : plan_(plan),
        job_(job),
        options_(options),
        feeder_(job, plan.strategy, 0, data),
        steps_(total_steps(job.request.training, feeder_.steps_per_epoch())),
        validation_(feeder_.validation()) {}

  Result<RunOutcome> run(const std::optional<DataFacts>& facts) {
    auto rank = RankRun::create(
        {.job = job_, .strategy = plan_.strategy, .machine = plan_.machine, .facts = facts});
    if (!rank) return rank.error();
    run_ = std::move(*rank);
    if (auto ok = check_programs(); !ok) return ok.error();
    if (auto ok = check_scratch(*run_); !ok) return ok.error();
    const auto loader = Loader::open(job_, options_.model, options_.adapter);
    if (!loader) return loader.error();
    if (auto ok = run_->load(*loader); !ok) return ok.error();
    reset_outside_peak();
    if (auto ok = resume(); !ok) return ok.error();
    if (auto ok = open_folder(); !ok) return ok.error();
    auto metrics = MetricsFiles::open(options_.output, step_);
    if (!metrics) return metrics.error();
    metrics_ = std::move(*metrics);
    if (auto ok = steps(); !ok) return ok.error();
    return finish();
  }

 private:
  // Only now is anything written: nothing of the plan, the model or the folder's own run was wrong.
  [[nodiscard]] Result<void> open_folder() const {
    std::error_code error;
    fs::create_directories(options_.output, error);
    if (error) return bad_input(options_.output, "cannot be made: " + error.message());
    return models::write_text_file(options_.output + "/plan.json", render_plan(plan_));
  }

  // The run executes what was estimated: the same programs, laid out the same way.
  [[nodiscard]] Result<void> check_programs() const {
    auto program =
        program::lower(job_, plan_.strategy, plan_.machine,
                       {.kind = program::ProgramKind::kTrain, .sequence = job_.sequence});
    if (!program) return program.error();
    const std::vector<std::string> found = {program::program_digest(*program)};
    if (plan_.digests.programs.empty() || plan_.digests.programs != found) {
      return bad_input(
          "plan", "this version of ftplan makes another step program: plan again with ftplan plan");
    }
    const Bytes mapped = run_->arenas().device.size();
    if (mapped != plan_.predicted.front().arena) {
      return bad_input("plan", "the arena would be " + std::to_string(mapped.value) +
                                   " bytes, planned are " +
                                   std::to_string(plan_.predicted.front().arena.value) +
                                   ": plan again with ftplan plan");
    }
    return {};
  }

  [[nodiscard]] std::string checkpoints() const { return options_.output + "/checkpoints"; }
  void note(const std::string& line) const {
    if (options_.note) options_.note(line);
  }

  Result<void> resume() {
    const auto newest = newest_checkpoint(checkpoints(), options_.plan_digest);
    if (!newest) return newest.error();
    if (!*newest) return {};
    if (auto ok = restore_checkpoint(*run_, (*newest)->path); !ok) return ok.error();
    step_ = (*newest)->step;
    note("continues after step " + std::to_string(step_) + " of " + std::to_string(steps_));
    return {};
  }

  Result<void> save() {
    if (auto ok = save_checkpoint(*run_, checkpoints(), step_, options_.plan_digest); !ok)
      return ok.error();
    return {};
  }

  [[nodiscard]] bool due(const Cadence& every) const {
    const std::int64_t period = every.epoch ? feeder_.steps_per_epoch() : every.steps;
    return period > 0 && step_ % period == 0;
  }

  Result<void> steps() {
    const TrainingOptions& training = job_.request.training;
    while (step_ < steps_) {
      if (auto ok = one_step(); !ok) return ok.error();
      const bool last = step_ == steps_;
      const bool evaluates = due(training.eval_every) || (last && training.eval_every != Cadence{});
      if (evaluates && !validation_.empty() && step_ >= training.eval_delay) {
        if (auto ok = evaluate(); !ok) return ok.error();
      }
      const bool stops = options_.stop != nullptr && *options_.stop;
      if (last || due(training.save_every) || stops) {
        if (auto ok = save(); !ok) return ok.error();
        note_disk();
      }
      if (stops && !last) {
        (void)write_measured(measured());
        return Error{ErrorCode::kInterrupted, "interrupted",
                     "after step " + std::to_string(step_) + " of " + std::to_string(steps_) +
                         ", the state is saved: the same command continues"};
      }
    }
    return {};
  }

  Result<void> one_step() {
    const auto began = Clock::now();
    const StepRows rows = feeder_.rows_of_step(step_);
    const double rate = learning_rate_at(job_.request.training, job_.learning_rate,
                                         step_ - run_->skipped_steps(), steps_);
    StepMetrics metrics{
        .step = step_ + 1, .learning_rate = rate, .target_tokens = rows.target_tokens};
    if (rows.target_tokens == 0) {
      note("step " + std::to_string(step_ + 1) + " has no tokens to learn and is skipped");
    } else {
      const auto fill = feeder_.fill(rows);
      const auto output = run_->train(rows.length, {step_, rate, rows.target_tokens}, fill);
      if (!output) return output.error();
      if (!std::isfinite(output->loss)) return not_finite("the loss is not finite", kSlower);
      if (auto ok = check_gradients(*output); !ok) return ok.error();
      metrics.loss = last_loss_ = output->loss;
      if (output->finite) metrics.gradient_norm = output->gradient_norm;
      if (run_->loss_scale()) {
        metrics.loss_scale = output->loss_scale;
        metrics.skipped_steps = run_->skipped_steps();
      }
    }
    ++step_;
    const double seconds = seconds_since(began);
    ++steps_done_;
    tokens_done_ += rows.tokens;
    training_seconds_ += seconds;
    metrics.seconds = seconds;
    metrics.tokens_per_second = static_cast<double>(rows.tokens) / seconds;
    metrics.device_peak_bytes = run_->arenas().device.size();
    if (auto ok = metrics_.write(metrics); !ok) return ok.error();
    if (options_.progress) {
      const double each = training_seconds_ / static_cast<double>(steps_done_);
      options_.progress({step_, steps_, last_loss_,
                         static_cast<double>(tokens_done_) / training_seconds_,
                         each * static_cast<double>(steps_ - step_), run_->skipped_steps(),
                         run_->arenas().device.size()});
    }
    return {};
  }

  // In fp16 gradients may overflow: their step is left out and the next has half the loss scale.
  Result<void> check_gradients(const StepOutput& output) {
    if (output.finite) return {};
    const auto& next = run_->loss_scale();
    if (!next) return not_finite("the gradient's norm is not finite", kSlower);
    if (next->exhausted()) {
      return not_finite("gradients overflow in fp16 though the loss scale has fallen to " +
                            format_number(output.loss_scale),
                        "use --precision bf16 or fp32, or try a lower --learning-rate");
    }
    note("step " + std::to_string(step_ + 1) +
         " is skipped: gradients overflow in fp16 at the loss scale " +
         format_number(output.loss_scale) + ", the next is " + format_number(next->scale));
    return {};
  }

  // The update was left out, so the state is the one before this step.
  Error not_finite(const std::string& what, const char* way_out) {
    const auto saved = save();
    const std::string state = saved ? "the state before it is saved"
                                    : "the state could not be saved: " + saved.error().text();
    return run_failed("step " + std::to_string(step_ + 1), what + ", " + state + ": " + way_out);
  }

  Result<void> evaluate() {
    double sum = 0;
    std::int64_t targets = 0;
    for (const StepRows& rows : validation_) {
      if (rows.target_tokens == 0) continue;
      const auto fill = feeder_.fill_validation(rows);
      const auto loss = run_->evaluate(rows.length, fill);
      if (!loss) return loss.error();
      sum += *loss;
      targets += rows.target_tokens;
    }
    if (targets == 0) return {};
    const double mean = sum / static_cast<double>(targets);
    note("step " + std::to_string(step_) + ": validation loss " + std::to_string(mean));
    return metrics_.write({.step = step_, .validation_loss = mean, .perplexity = std::exp(mean)});
  }

  // The fullest instants: a new checkpoint beside the one it replaces, and the result beside the
  // last checkpoint.
  void note_disk() {
    const Category values = job_.lora() ? Category::kAdapters : Category::kWeights;
    const PlaceBytes now = checkpoint_disk_bytes(checkpoints(), values);
    keep_larger(sum_of(now, previous_checkpoint_));
    previous_checkpoint_ = now;
  }
  void keep_larger(const PlaceBytes& bytes) {
    if (bytes.peak > disk_.peak) disk_ = bytes;
  }

  [[nodiscard]] RunResult measured() const {
    const RankPrediction& predicted = plan_.predicted.front();
    RankBytes found = run_->measured();
    found.disk = disk_;
    RunResult result;
    result.ranks.push_back(
        {.rank = 0,
         .predicted = {predicted.device, predicted.host, predicted.disk},
         .measured = found,
         .outside_arena_bytes = outside_peak(),
         .process_bytes = resident_bytes() - found.device.peak - found.host.peak});
    if (training_seconds_ > 0) {
      result.tokens_per_second = static_cast<double>(tokens_done_) / training_seconds_;
      result.step_seconds = training_seconds_ / static_cast<double>(steps_done_);
    }
    return result;
  }

  Result<void> write_measured(const RunResult& result) const {
    // A finished run that is started again has nothing to say.
    const std::string path = options_.output + "/measured.json";
    if (steps_done_ == 0 && models::is_file(path)) return {};
    return models::write_text_file(path, render_json(to_json(result)) + "\n");
  }

  Result<RunOutcome> finish() {
    if (steps_done_ == 0) note_disk();
    auto folder = write_result(*run_, options_.output, options_.model);
    if (!folder) return folder.error();
    const PlaceBytes kept = checkpoint_disk_bytes(
        checkpoints(), job_.lora() ? Category::kAdapters : Category::kWeights);
    keep_larger(sum_of(kept, result_disk_bytes(*run_, options_.output)));
    // Once: the process may have grown by a page when it is asked again.
    RunResult result = measured();
    if (auto ok = write_measured(result); !ok) return ok.error();
    return RunOutcome{std::move(result), *folder, step_, last_loss_, run_->skipped_steps()};
  }

  const Plan& plan_;
  const Job& job_;
  const RunOptions& options_;
  Feeder feeder_;
  std::int64_t steps_;
  std::vector<StepRows> validation_;
  std::unique_ptr<RankRun> run_;
  MetricsFiles metrics_;
  std::int64_t step_ = 0;        // optimizer steps that are done
  std::int64_t steps_done_ = 0;  // by this process
  std::int64_t tokens_done_ = 0;
  double training_seconds_ = 0;
  double last_loss_ = 0;
  PlaceBytes disk_;
  PlaceBytes previous_checkpoint_;
};

}  // namespace

Result<RunOutcome> run_plan(const Plan& plan, const Job& job, const data::DataSet& data,
                            const RunOptions& options) {
  if (auto ok = check_digests(plan, job, data, plan.machine); !ok) return ok.error();
  const std::optional<DataFacts> facts =
      plan.data ? plan.data : std::optional<DataFacts>(data.facts);
  return RunLoop(plan, job, data, options).run(facts);
}

}  // namespace ftplan::executor

#include "executor/run_loop.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
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
#include "executor/evaluations.h"
#include "executor/feeding.h"
#include "executor/kernels.h"
#include "executor/loader.h"
#include "executor/metrics.h"
#include "executor/process_group.h"
#include "executor/process_memory.h"
#include "executor/rank_run.h"
#include "executor/results.h"
#include "executor/torch_runtime.h"
#include "models/family.h"
#include "models/files.h"
#include "program/lower.h"
#include "program/lowering.h"
#include "program/run_files.h"

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
  if (machine.backend != Backend::kCpu) {
    return bad_input("--gpus",
                     "running on " + machine.name + " is not built yet: plan with --gpus cpu");
  }
  if (plan.job.runtime != "ftplan") {
    return bad_input("--runtime", "a plan for " + plan.job.runtime +
                                      " is an estimate of another trainer" + again);
  }
  if (!plan.strategy.stage_layers.empty()) {
    return bad_input("--pipeline",
                     "running a pipeline is not built yet: plan with --zero 3 instead");
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

class RunLoop {
 public:
  RunLoop(const Plan& plan, const Job& job, const data::DataSet& data, const RunOptions& options)
      : plan_(plan),
        job_(job),
        options_(options),
        group_(options.group),
        rank_(group_ == nullptr ? 0 : group_->rank()),
        feeder_(job, plan.strategy, rank_, data),
        steps_(total_steps(job.request.training, feeder_.steps_per_epoch())),
        validation_(feeder_.validation()),
        evaluations_(job.request.training, feeder_.steps_per_epoch(), steps_),
        checkpoints_(options.output + "/checkpoints", options.plan_digest,
                     program::file_share(job, plan.strategy, rank_)) {}

  Result<RunOutcome> run(const std::optional<DataFacts>& facts) {
    auto rank = RankRun::create({.job = job_,
                                 .strategy = plan_.strategy,
                                 .machine = plan_.machine,
                                 .rank = rank_,
                                 .facts = facts,
                                 .communicator = group_ ? &group_->communicator() : nullptr});
    if (!rank) return rank.error();
    run_ = std::move(*rank);
    if (auto ok = check_validation(); !ok) return ok.error();
    if (auto ok = check_programs(); !ok) return ok.error();
    if (auto ok = check_scratch(*run_); !ok) return ok.error();
    const auto loader = Loader::open(job_, options_.model, options_.adapter);
    if (!loader) return loader.error();
    if (auto ok = run_->load(*loader); !ok) return ok.error();
    reset_outside_peak();
    if (auto ok = resume(); !ok) return ok.error();
    if (auto ok = check_steps(); !ok) return ok.error();
    if (first()) {
      if (auto ok = open_folder(); !ok) return ok.error();
    }
    if (auto ok = meet(); !ok) return ok.error();
    if (group_ != nullptr) group_->begin_steps();
    if (auto ok = steps(); !ok) return ok.error();
    return finish();
  }

 private:
  [[nodiscard]] bool first() const { return rank_ == 0; }

  // Returns when all ranks have come here.
  [[nodiscard]] Result<void> meet() const {
    return group_ == nullptr ? Result<void>{} : group_->meet();
  }

  // Of all ranks, rank by rank.
  [[nodiscard]] Result<std::vector<double>> gather(double own) const {
    return group_ == nullptr ? Result(std::vector{own}) : group_->gather({&own, 1});
  }
  [[nodiscard]] Result<double> sum_over_ranks(double own) const {
    const auto all = gather(own);
    if (!all) return all.error();
    return std::accumulate(all->begin(), all->end(), 0.0);
  }

  // All ranks read one run folder.
  [[nodiscard]] Result<void> check_steps() const {
    const auto all = gather(static_cast<double>(step_));
    if (!all) return all.error();
    for (const double other : *all) {
      if (other == all->front()) continue;
      return bad_input(options_.output, "one rank would continue after step " +
                                            format_number(all->front()) + ", another after " +
                                            format_number(other) +
                                            ": all must see the same run folder");
    }
    return {};
  }

  // What each rank has a part of and all need whole.
  [[nodiscard]] Result<void> assemble_weights() const {
    for (const std::span<std::byte> weights : run_->assembled_weights()) {
      if (auto ok = group_->gather_parts(weights); !ok) return ok.error();
    }
    return {};
  }

  [[nodiscard]] Result<void> open_folder() {
    if (auto ok = make_folder(); !ok) return ok.error();
    auto metrics = MetricsFiles::open(options_.output, step_);
    if (!metrics) return metrics.error();
    metrics_ = std::move(*metrics);
    return {};
  }

  // Only now is anything written: nothing of the plan, the model or the folder's own run was wrong.
  [[nodiscard]] Result<void> make_folder() const {
    std::error_code error;
    fs::create_directories(options_.output, error);
    if (error) {
      // A path that cannot be is the user's; a disk that is full or protected is the machine's.
      const bool impossible = error == std::errc::not_a_directory ||
                              error == std::errc::file_exists ||
                              error == std::errc::filename_too_long;
      const std::string message = "cannot be made: " + error.message();
      return impossible ? bad_input(options_.output, message)
                        : run_failed(options_.output, message);
    }
    return models::write_text_file(options_.output + "/plan.json", render_plan(plan_));
  }

  [[nodiscard]] Result<void> check_validation() const {
    const TrainingOptions& training = job_.request.training;
    const bool needed = training.load_best_model_at_end || training.early_stopping_patience;
    const bool learned = std::any_of(validation_.begin(), validation_.end(),
                                     [](const auto& rows) { return rows.target_tokens > 0; });
    if (!needed || learned) return {};
    return bad_input("--validation",
                     "the held-out rows have no tokens to learn: give more of them");
  }

  // The run executes what was estimated: the same programs, laid out the same way.
  [[nodiscard]] Result<void> check_programs() const {
    auto program = program::lower(
        job_, plan_.strategy, plan_.machine,
        {.kind = program::ProgramKind::kTrain, .rank = rank_, .sequence = job_.sequence});
    if (!program) return program.error();
    const auto& planned = plan_.digests.programs;
    // Of ranks that are equal the plan has the first alone.
    const auto own = planned.size() == 1 ? 0 : static_cast<std::size_t>(rank_);
    if (own >= planned.size() || planned[own] != program::program_digest(*program)) {
      return bad_input(
          "plan", "this version of ftplan makes another step program: plan again with ftplan plan");
    }
    const Bytes mapped = run_->arenas().device.size();
    if (mapped != prediction().arena) {
      return bad_input(
          "plan", "the arena would be " + std::to_string(mapped.value) + " bytes, planned are " +
                      std::to_string(prediction().arena.value) + ": plan again with ftplan plan");
    }
    return {};
  }

  [[nodiscard]] const RankPrediction& prediction() const {
    const auto own = std::find_if(plan_.predicted.begin(), plan_.predicted.end(),
                                  [&](const RankPrediction& each) { return each.rank == rank_; });
    return own == plan_.predicted.end() ? plan_.predicted.front() : *own;
  }

  void note(const std::string& line) const {
    if (options_.note) options_.note(line);
  }

  Result<void> resume() {
    const auto state = checkpoints_.restore(*run_);
    if (!state) return state.error();
    if (!*state) return {};
    if (auto ok = assemble_weights(); !ok) return ok.error();
    const program::BestState& best = (*state)->best;
    if (keeps_best() && best.step > 0) {
      if (auto ok = checkpoints_.check_best(best.step); !ok) return ok.error();
    }
    step_ = (*state)->step;
    evaluations_.restore(best);
    note("continues after step " + std::to_string(step_) + " of " + std::to_string(steps_));
    return {};
  }

  [[nodiscard]] program::CheckpointState state() const {
    return {step_, evaluations_.best(), run_->loss_scale()};
  }
  [[nodiscard]] bool keeps_best() const { return job_.request.training.load_best_model_at_end; }

  // The last step is the one that was planned, or that after which nothing got better.
  [[nodiscard]] bool ended() const { return step_ >= steps_ || evaluations_.stop(); }

  // Of a run that was never stopped: what a stop saved is left out, so that both end the same.
  [[nodiscard]] bool saves_at(std::int64_t step) const {
    return is_due(job_.request.training.save_every, step, feeder_.steps_per_epoch()) ||
           (step == step_ && ended());
  }

  // A folder that was removed is not made again.
  Result<void> save_in_folder() {
    if (!models::is_folder(options_.output)) return run_failed(options_.output, "is gone");
    return checkpoints_.save(*run_, state());
  }

  // The newest checkpoint beside those that are kept is one of the fullest instants.
  Result<void> save() {
    if (auto ok = save_in_folder(); !ok) {
      if (models::is_folder(options_.output)) return ok.error();
      return run_failed(options_.output, "is gone: it was removed while the run went on");
    }
    const std::int64_t limit = job_.request.training.save_total_limit;
    const auto belongs = [this](std::int64_t step) { return saves_at(step); };
    // All have saved; then all know that it counts.
    if (auto ok = meet(); !ok) return ok.error();
    if (first()) {
      if (auto ok = checkpoints_.complete(step_, limit, belongs); !ok) return ok.error();
    }
    if (auto ok = meet(); !ok) return ok.error();
    note_disk();
    checkpoints_.prune(limit, belongs);
    return {};
  }

  Result<void> save_best() {
    const PlaceBytes before = kept_bytes();
    if (auto ok = checkpoints_.save_best(*run_, state()); !ok) return ok.error();
    keep_larger(before + checkpoints_.best_bytes(*run_));
    return {};
  }

  Result<void> steps() {
    while (!ended()) {
      if (auto ok = one_step(); !ok) return ok.error();
      if (evaluations_.due(step_)) {
        if (auto ok = evaluate(); !ok) return ok.error();
      }
      const auto asked = sum_over_ranks(options_.stop != nullptr && *options_.stop ? 1 : 0);
      if (!asked) return asked.error();
      const bool stops = *asked > 0;
      if (saves_at(step_) || stops) {
        if (auto ok = save(); !ok) return ok.error();
      }
      if (stops && !ended()) {
        if (const auto result = measured()) (void)write_measured(*result);
        return Error{ErrorCode::kInterrupted, "interrupted",
                     "after step " + std::to_string(step_) + " of " + std::to_string(steps_) +
                         ", the state is saved: the same command continues"};
      }
    }
    if (stopped_early()) {
      note("stopped after step " + std::to_string(step_) + " of " + std::to_string(steps_) +
           ": the last " + std::to_string(evaluations_.best().worse) +
           " evaluations were no improvement");
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
      auto output = run_->train(rows.length, {step_, rate, rows.target_tokens}, fill);
      if (!output) return output.error();
      const auto loss = sum_over_ranks(output->loss);
      if (!loss) return loss.error();
      output->loss = *loss;
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
    if (auto ok = write(metrics); !ok) return ok.error();
    if (options_.progress) {
      const double each = training_seconds_ / static_cast<double>(steps_done_);
      options_.progress({step_, steps_, last_loss_,
                         static_cast<double>(tokens_done_) / training_seconds_,
                         each * static_cast<double>(steps_ - step_), run_->skipped_steps(),
                         run_->arenas().device.size()});
    }
    return {};
  }

  Result<void> write(const StepMetrics& metrics) {
    return first() ? metrics_.write(metrics) : Result<void>{};
  }

  // In fp16 gradients may overflow: their step is left out and the next has half the loss scale.
  Result<void> check_gradients(const StepOutput& output) {
    if (output.finite) return {};
    const auto& next = run_->loss_scale();
    if (!next && job_.request.training.update_in_backward) return updated_in_part();
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

  // Layers above the first gradient that is not finite have their update.
  Error updated_in_part() const {
    return run_failed(
        "step " + std::to_string(step_ + 1),
        "the gradient's norm is not finite, and with --update-in-backward some layers "
        "are updated by then: the last checkpoint stays, try a lower --learning-rate");
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
    const auto all = sum_over_ranks(sum);
    if (!all) return all.error();
    sum = *all;
    const double mean = sum / static_cast<double>(targets);
    note("step " + std::to_string(step_) + ": validation loss " + std::to_string(mean));
    const bool lowest = evaluations_.add(step_, mean);
    if (lowest && keeps_best()) {
      if (auto ok = save_best(); !ok) return ok.error();
    }
    StepMetrics line{.step = step_, .validation_loss = mean, .perplexity = std::exp(mean)};
    if (evaluations_.best().step > 0) {
      line.best_validation_loss = evaluations_.best().loss;
      line.best_step = evaluations_.best().step;
    }
    return write(line);
  }

  [[nodiscard]] bool stopped_early() const { return evaluations_.stop() && step_ < steps_; }

  // What a stop left beside the newest is not counted: it is gone after the next.
  [[nodiscard]] PlaceBytes kept_bytes() const {
    return checkpoints_.bytes(
        *run_, [this](std::int64_t step) { return step == step_ || saves_at(step); });
  }
  void note_disk() { keep_larger(kept_bytes()); }
  void keep_larger(const PlaceBytes& bytes) {
    if (bytes.peak > disk_.peak) disk_ = bytes;
  }

  [[nodiscard]] RankMeasurement measured_rank() const {
    const RankPrediction& predicted = prediction();
    RankBytes found = run_->measured();
    found.disk = disk_;
    return {.rank = rank_,
            .predicted = {predicted.device, predicted.host,
                          stopped_early() || predicted.rank != rank_ ? predicted_disk()
                                                                     : predicted.disk},
            .measured = found,
            .outside_arena_bytes = outside_peak(),
            .process_bytes = resident_bytes() - found.device.peak - found.host.peak};
  }

  // Of all ranks, which all call it.
  [[nodiscard]] Result<RunResult> measured() const {
    RunResult result{.steps = step_, .stopped_early = stopped_early()};
    if (const program::BestState& best = evaluations_.best(); best.step > 0) {
      result.best_step = best.step;
      result.best_validation_loss = best.loss;
    }
    result.ranks.push_back(measured_rank());
    if (group_ != nullptr) {
      const auto texts = group_->gather(to_json(result.ranks.front()).dump());
      if (!texts) return texts.error();
      result.ranks.clear();
      for (const std::string& text : *texts) {
        const auto json = parse_json(text, "measured");
        if (!json) return json.error();
        auto rank = from_json<RankMeasurement>(*json, "measured");
        if (!rank) return rank.error();
        result.ranks.push_back(*std::move(rank));
      }
    }
    if (training_seconds_ > 0) {
      result.tokens_per_second = static_cast<double>(tokens_done_) / training_seconds_;
      result.step_seconds = training_seconds_ / static_cast<double>(steps_done_);
    }
    return result;
  }

  // Fewer steps may write fewer checkpoints.
  [[nodiscard]] PlaceBytes predicted_disk() const {
    return program::disk_bytes(job_, run_->state_tensors(),
                               program::checkpoint_count(job_, step_, feeder_.steps_per_epoch()),
                               run_->file_share());
  }

  Result<void> write_measured(const RunResult& result) const {
    // A finished run that is started again has nothing to say.
    const std::string path = options_.output + "/measured.json";
    if (!first() || (steps_done_ == 0 && models::is_file(path))) return {};
    return models::write_text_file(path, render_json(to_json(result)) + "\n");
  }

  Result<RunOutcome> finish() {
    if (steps_done_ == 0) note_disk();
    std::int64_t result_step = step_;
    if (keeps_best() && evaluations_.best().step > 0) {
      result_step = evaluations_.best().step;
      if (auto ok = checkpoints_.restore_best(*run_, result_step); !ok) return ok.error();
      if (auto ok = assemble_weights(); !ok) return ok.error();
    }
    std::string folder;
    if (run_->file_share().writes_result) {
      auto written = write_result(*run_, options_.output, options_.model, options_.tokenizer);
      if (!written) return written.error();
      folder = *std::move(written);
      keep_larger(kept_bytes() + result_disk_bytes(*run_, options_.output));
    } else if (auto ok = run_->save([](const StoredValues&) { return Result<void>{}; }); !ok) {
      return ok.error();
    }
    // Once: the process may have grown by a page when it is asked again.
    auto found = measured();
    if (!found) return found.error();
    RunResult result = *std::move(found);
    result.result_step = result_step;
    if (auto ok = write_measured(result); !ok) return ok.error();
    return RunOutcome{std::move(result), folder,     step_,
                      steps_done_ == 0,  last_loss_, run_->skipped_steps()};
  }

  const Plan& plan_;
  const Job& job_;
  const RunOptions& options_;
  ProcessGroup* group_;  // null: this rank is the only one
  std::int64_t rank_;
  Feeder feeder_;
  std::int64_t steps_;
  std::vector<StepRows> validation_;
  Evaluations evaluations_;
  Checkpoints checkpoints_;
  std::unique_ptr<RankRun> run_;
  MetricsFiles metrics_;
  std::int64_t step_ = 0;        // optimizer steps that are done
  std::int64_t steps_done_ = 0;  // by this process
  std::int64_t tokens_done_ = 0;
  double training_seconds_ = 0;
  double last_loss_ = 0;
  PlaceBytes disk_;
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

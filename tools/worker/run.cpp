#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "core/digest.h"
#include "core/job.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/run_result.h"
#include "core/text.h"
#include "data/chat_template.h"
#include "data/data_set.h"
#include "executor/process_group.h"
#include "executor/run_loop.h"
#include "models/family.h"
#include "models/load.h"
#include "tools/environment.h"
#include "tools/facts.h"
#include "tools/options.h"
#include "tools/resolve.h"
#include "tools/run_flags.h"
#include "tools/worker/commands.h"
#include "tools/worker/find_place.h"

namespace ftplan::tools {
namespace {

std::atomic<bool> stop_asked{false};

std::atomic<std::int64_t> asked_at_ns{0};

std::int64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// One request may come twice: to the whole group, and again from ftplan, which passes its own on.
constexpr std::int64_t kSameRequestNs = 1'000'000'000;

extern "C" void ask_to_stop(int number) {
  const std::int64_t now = monotonic_ns();
  if (stop_asked && now - asked_at_ns > kSameRequestNs) {
    ::signal(number, SIG_DFL);
    ::raise(number);
    return;
  }
  if (!stop_asked) asked_at_ns = now;
  stop_asked = true;
}

// The first request finishes the step and saves; another, later, ends the process.
void listen_for_stop() {
  struct sigaction action{};
  action.sa_handler = ask_to_stop;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

std::string duration(double seconds) {
  std::array<char, 32> text{};
  const auto whole = std::llround(seconds);
  (void)std::snprintf(text.data(), text.size(),
                      whole >= 3600 ? "%lld:%02lld:%02lld" : "%02lld:%02lld",
                      whole >= 3600 ? whole / 3600 : whole / 60,
                      whole >= 3600 ? whole / 60 % 60 : whole % 60, whole % 60);
  return text.data();
}

// Nothing where no step was left out.
std::string skipped(std::int64_t steps, const char* before) {
  return steps == 0 ? "" : before + std::to_string(steps) + " skipped";
}

// One line that is written over on a terminal, and nothing elsewhere.
class ProgressLine {
 public:
  void show(const executor::Progress& p) {
    if (!terminal_) return;
    std::fprintf(stderr, "\r\x1b[Kstep %lld/%lld  loss %.4f%s  %.0f tokens/s  %s  %s left",
                 static_cast<long long>(p.step), static_cast<long long>(p.steps), p.loss,
                 skipped(p.skipped_steps, "  ").c_str(), p.tokens_per_second,
                 format_bytes(p.device_peak).c_str(), duration(p.seconds_left).c_str());
    open_ = true;
  }
  void note(const std::string& line) {
    close();
    std::fprintf(stderr, "%s\n", line.c_str());
  }
  void close() {
    if (open_) std::fputs("\n", stderr);
    open_ = false;
  }

 private:
  bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  bool open_ = false;
};

class RunPlan : public Command {
 public:
  void declare(Options& options) override { flags_.declare(options); }

  Result<int> run() override {
    auto plan = load_plan(flags_.plan);
    if (!plan) return plan.error();
    const auto job = job_of(*plan);
    if (!job) return job.error();
    const auto place = find_place(*plan, *job, flags_);
    if (!place) return place.error();
    if (auto ok = check_memory(*plan, place->local_ranks); !ok) return ok.error();
    listen_for_stop();
    if (auto ok = join(*plan, *place); !ok) return ok.error();
    auto code = run_rank(*plan, *job);
    if (group_ == nullptr) return code;
    // What all have agreed on needs no blame.
    if (!code && code.error().code != ErrorCode::kInterrupted) return group_->settle(code.error());
    group_->leave();
    return code;
  }

 private:
  Result<void> join(const Plan& plan, const Place& place) {
    if (!place.membership) return {};
    auto group = executor::ProcessGroup::join(*place.membership, digest_of(plan), &stop_asked);
    if (!group) return group.error();
    group_ = *std::move(group);
    return {};
  }

  Result<int> run_rank(const Plan& plan, const Job& job) {
    auto model = find_model(plan);
    if (!model) return model.error();
    model->config = plan.model;
    // The others find what rank 0 has tokenized.
    if (!first() && group_) {
      if (auto ok = group_->meet(); !ok) return ok.error();
    }
    const auto loaded = load_data(plan, *model);
    if (!loaded) return loaded.error();
    if (first() && group_) {
      if (auto ok = group_->meet(); !ok) return ok.error();
    }
    return fine_tune(plan, job, *model, loaded->set);
  }

  [[nodiscard]] bool first() const { return group_ == nullptr || group_->rank() == 0; }
  // Of what decides losses: a run goes on on another number of ranks, or in other micro-batches.
  [[nodiscard]] static std::string training_digest(const Plan& plan, const Job& job) {
    JobRequest request = plan.job;
    request.devices = {};
    request.layout = {};
    request.model.clear();
    request.data.data.clear();
    request.training.micro_batch.reset();
    request.training.accumulation.reset();
    request.training.global_batch = job.global_batch;
    const Json json = {{"request", to_json(request)},
                       {"model", plan.digests.model},
                       {"data", plan.digests.data},
                       {"steps", plan.steps}};
    return digest(json.dump()).substr(0, 16);
  }
  [[nodiscard]] static std::string digest_of(const Plan& plan) {
    return digest(render_plan(plan)).substr(0, 16);
  }

  [[nodiscard]] Result<models::ModelSource> find_model(const Plan& plan) const {
    const std::string bound = bind_path(flags_.plan, plan.job.model);
    std::error_code error;
    const bool is_path = std::filesystem::exists(bound, error);
    auto source = models::load_model_config(flags_.model ? *flags_.model
                                            : is_path    ? bound
                                                         : plan.job.model,
                                            hub_environment());
    if (!source) return source;
    if (source->folder.empty()) {
      return bad_input("--model", "the plan is for the preset " + plan.job.model +
                                      ": name the folder with its weights, --model FOLDER");
    }
    if (models::weight_table_digest(source->config) != plan.digests.model) {
      return bad_input(source->folder,
                       "is another model than the plan's: plan again with ftplan plan --model " +
                           source->folder);
    }
    return source;
  }

  // With the adapter where it lies now.
  [[nodiscard]] JobRequest bound_request(const Plan& plan) const {
    JobRequest request = plan.job;
    request.adapter = flags_.adapter ? *flags_.adapter : bind_path(flags_.plan, plan.job.adapter);
    return request;
  }

  [[nodiscard]] Result<LoadedData> load_data(const Plan& plan,
                                             const models::ModelSource& model) const {
    JobRequest request = bound_request(plan);
    if (!plan.data) {
      return bad_input(flags_.plan,
                       "was made without data: plan again with ftplan plan --data FILE");
    }
    for (std::string& file : request.data.data) file = bind_path(flags_.plan, file);
    if (!flags_.data.empty()) request.data.data = flags_.data;
    auto& shape = request.data.prompt_template;
    if (shape && !data::ChatTemplate::is_known(*shape)) shape = bind_path(flags_.plan, *shape);
    return load_request_data(request, model);
  }

  Result<int> fine_tune(const Plan& plan, const Job& job, const models::ModelSource& model,
                        const data::DataSet& data) {
    ProgressLine line;
    executor::RunOptions options{.model = model.folder,
                                 .output = flags_.output ? *flags_.output : default_output(),
                                 .adapter = bound_request(plan).adapter,
                                 .tokenizer = tokenizer_source(bound_request(plan), model),
                                 .plan_digest = training_digest(plan, job),
                                 .stop = &stop_asked,
                                 .group = group_.get()};
    if (first()) {
      options.progress = [&](const executor::Progress& p) { line.show(p); };
      options.note = [&](const std::string& text) { line.note(text); };
    }
    const auto outcome = executor::run_plan(plan, job, data, options);
    line.close();
    if (!outcome) return outcome.error();
    if (!first()) return 0;
    if (flags_.json) {
      std::fputs((render_json(to_json(outcome->measured)) + "\n").c_str(), stdout);
    } else {
      summarize(*outcome, options.output);
    }
    return 0;
  }

  static void print_measured(const executor::RunOutcome& outcome) {
    std::printf("%lld steps%s, last loss %.4f, %.0f tokens/s\n",
                static_cast<long long>(outcome.steps), skipped(outcome.skipped_steps, ", ").c_str(),
                outcome.last_loss, outcome.measured.tokens_per_second);
    for (const RankMeasurement& rank : outcome.measured.ranks) {
      if (outcome.measured.ranks.size() > 1)
        std::printf("rank %lld\n", static_cast<long long>(rank.rank));
      print_rank(rank);
    }
  }

  static void print_rank(const RankMeasurement& rank) {
    const bool equal = rank.predicted == rank.measured;
    std::printf("device   predicted %lld bytes, measured %lld\n",
                static_cast<long long>(rank.predicted.device.peak.value),
                static_cast<long long>(rank.measured.device.peak.value));
    std::printf("host     predicted %lld bytes, measured %lld\n",
                static_cast<long long>(rank.predicted.host.peak.value),
                static_cast<long long>(rank.measured.host.peak.value));
    std::printf("disk     predicted %lld bytes, measured %lld\n",
                static_cast<long long>(rank.predicted.disk.peak.value),
                static_cast<long long>(rank.measured.disk.peak.value));
    std::printf("%s; %lld bytes outside the arena\n",
                equal ? "every category as predicted" : "categories differ: see measured.json",
                static_cast<long long>(rank.outside_arena_bytes.value));
  }

  static void summarize(const executor::RunOutcome& outcome, const std::string& output) {
    if (outcome.was_complete) {
      std::printf("the run is complete: %lld steps\n", static_cast<long long>(outcome.steps));
    } else {
      print_measured(outcome);
    }
    const RunResult& run = outcome.measured;
    std::string what;
    if (run.result_step && *run.result_step != run.steps)
      what = ", the state after step " + std::to_string(*run.result_step) + ", the best";
    std::printf("result   %s%s\nNext:    ftplan report %s --html report.html\n",
                outcome.result.c_str(), what.c_str(), output.c_str());
  }

  [[nodiscard]] std::string default_output() const {
    return std::filesystem::path(flags_.plan).replace_extension().string() + "-run";
  }

  RunFlags flags_;
  std::unique_ptr<executor::ProcessGroup> group_;  // of several ranks
};

}  // namespace

CommandRow run_command() {
  return {"run", "Fine-tunes as planned; resumes by itself.", "ftplan run plan.json --output out",
          [] { return std::make_unique<RunPlan>(); }};
}

}  // namespace ftplan::tools

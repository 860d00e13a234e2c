#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/devices.h"
#include "core/enums.h"
#include "core/job.h"
#include "core/json.h"
#include "core/machine.h"
#include "core/method.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/strategy.h"
#include "core/text.h"
#include "core/units.h"
#include "estimator/devices.h"
#include "estimator/predict.h"
#include "models/family.h"
#include "models/hub_cache.h"
#include "models/presets.h"
#include "planner/cut.h"
#include "planner/room.h"
#include "planner/search.h"
#include "tools/commands.h"
#include "tools/environment.h"
#include "tools/estimate_screen.h"
#include "tools/host.h"
#include "tools/import/imported_job.h"
#include "tools/job_flags.h"
#include "tools/options.h"
#include "tools/resolve.h"

namespace ftplan::tools {
namespace {

constexpr const char* kOwnRuntime = "ftplan";
constexpr const char* kTransformersRuntime = "hf";
constexpr std::int64_t kStages = 4;
constexpr std::int64_t kMostDevices = 1024;

// Whether a stage is built is for `validate` to say.
bool is_built(const Resolved& resolved, std::int64_t stage) {
  JobRequest request = resolved.job.request;
  request.devices.gpus = "2xcpu";
  request.training.micro_batch = 1;
  request.training.accumulation = 1;
  request.training.global_batch.reset();
  request.training.update_in_backward = false;
  request.layout.zero = stage;
  return validate(request, resolved.job.model, std::nullopt).ok();
}

std::string not_built(const Resolved& resolved) {
  std::vector<std::string> missing;
  for (std::int64_t stage = 0; stage < kStages; ++stage) {
    if (!is_built(resolved, stage)) missing.push_back("ZeRO-" + std::to_string(stage));
  }
  missing.insert(missing.end(), {"offload", "pipelines that overlap", "seconds and cost"});
  return "not built yet: " + join(missing, ", ");
}

// Calls `work` with 0, 1, ... `count` - 1 on the processors of this machine.
template <class Work>
void in_parallel(std::size_t count, const Work& work) {
  std::atomic<std::size_t> next = 0;
  const auto run = [&] {
    for (std::size_t i = next++; i < count; i = next++) work(i);
  };
  std::vector<std::jthread> helpers;
  const auto threads = std::min(count, static_cast<std::size_t>(usable_cpus()));
  while (helpers.size() + 1 < threads) helpers.emplace_back(run);
  run();
}

class Estimate : public Command {
 public:
  void declare(Options& options) override {
    flags_.declare(options);
    options.value({"--from", "FILE",
                   "Another trainer's configuration: axolotl's .yml, DeepSpeed's JSON, "
                   "training_args.json or adapter_config.json; other flags are put over it.",
                   "Model"},
                  from_);
    options.toggle({"--all", "",
                    "A row with and without recomputation, and columns for scratch and interval."},
                   all_);
    options.toggle({"--json", "", "Prints JSON."}, json_);
  }

  Result<int> run() override {
    auto request = read_request();
    if (!request) return request.error();
    // The least that a step can be; plan has a larger batch unless told otherwise.
    if (!request->training.micro_batch && !request->training.accumulation &&
        !request->training.global_batch) {
      request->training.micro_batch = 1;
      request->training.accumulation = 1;
    }
    auto answer = answer_to(*request);
    if (!answer && imported_ && !flags_.given("runtime")) {
      const std::string reason = answer.error().text();
      request->runtime = kOwnRuntime;
      answer = answer_to(*request);
      if (answer) answer->resolved.notes.push_back("as ftplan itself would train it: " + reason);
    }
    if (!answer) return answer.error();
    const auto& [resolved, rows] = *answer;
    if (json_) {
      print(render_json(as_json(resolved, rows)));
      return 0;
    }
    EstimateScreen screen{.resolved = resolved,
                          .rows = rows,
                          .origin = origin(resolved),
                          .not_built = not_built(resolved),
                          .all = all_,
                          .room = {},
                          .fewest = {}};
    if (auto ok = find_room(screen); !ok) return ok.error();
    print(render_estimate(screen));
    return 0;
  }

 private:
  // On one device, what another trainer's file asks for is estimated as transformers would do it.
  Result<JobRequest> read_request() {
    if (!from_) return flags_.read();
    auto imported = import_job(*from_);
    if (!imported) return imported.error();
    imported_ = *std::move(imported);
    auto base = request_of(*imported_, *from_);
    if (!base) return base.error();
    base->model = known_model(base->model);
    auto request = flags_.read_over(*std::move(base));
    if (!request) return request.error();
    const auto named = estimator::name_devices(request->devices);
    const auto devices = named ? parse_devices(named->options.gpus) : named.error();
    if (devices && devices->count() == 1 && !flags_.given("runtime"))
      request->runtime = kTransformersRuntime;
    return request;
  }

  // A repository that was not downloaded is as good as its preset where no weights are read.
  static std::string known_model(const std::string& name) {
    for (const models::Preset& preset : models::presets()) {
      if (preset.repository == name && !models::find_snapshot(name, hub_environment()))
        return preset.name;
    }
    return name;
  }

  struct Answer {
    Resolved resolved;
    std::vector<EstimateRow> rows;
  };
  Result<Answer> answer_to(const JobRequest& request) const {
    auto resolved = resolve(request);
    if (!resolved) return resolved.error();
    auto rows = all_rows(*resolved);
    if (!rows) return rows.error();
    return Answer{*std::move(resolved), *std::move(rows)};
  }

  // A table has one row for each layout: with the recomputation that needs least.
  [[nodiscard]] std::vector<Checkpointing> assumed(const Job& job) const {
    if (all_) return job.checkpointing_choices;
    return {job.checkpointing_choices.back()};
  }

  // A layout of a method, before it is evaluated.
  struct Candidate {
    Job job;
    Strategy strategy;
  };

  // Every method that is built with every layout that the request leaves open.
  Result<std::vector<Candidate>> candidates(const Resolved& resolved) const {
    std::vector<Candidate> all;
    for (const Method method : {Method::kFull, Method::kLora, Method::kInt8Lora, Method::kQlora}) {
      JobRequest request = resolved.job.request;
      if (is_quantized(method) && request.runtime != kOwnRuntime) continue;
      const bool fixed = flags_.given("method") || flags_.given("adapter") ||
                         (imported_ && imported_->sets("/method/method"));
      if (fixed && request.method.method != method) continue;
      request.method.method = method;
      auto job = validate(request, resolved.job.model, resolved.facts);
      if (!job) return job.error();
      add_candidates(*job, all);
      if (request.layout.zero || request.layout.pipeline || job->ranks() == 1) continue;
      request.layout.pipeline = Pipeline::kNaive;
      // Not every model can be cut into as many stages.
      const auto cut = validate(request, resolved.job.model, resolved.facts);
      if (cut) add_candidates(*cut, all);
    }
    return all;
  }

  void add_candidates(const Job& job, std::vector<Candidate>& all) const {
    for (const std::int64_t zero : job.zero_choices) {
      for (const Checkpointing checkpointing : assumed(job)) {
        const std::int64_t micro_batch = job.micro_batch_choices.back();
        all.push_back({job, planner::strategy_of(job, checkpointing, zero, micro_batch)});
      }
    }
  }

  Result<std::vector<EstimateRow>> all_rows(const Resolved& resolved) const {
    auto candidates = this->candidates(resolved);
    if (!candidates) return candidates.error();
    std::vector<std::optional<Result<planner::Evaluation>>> evaluations(candidates->size());
    in_parallel(evaluations.size(), [&](std::size_t i) {
      const Candidate& candidate = (*candidates)[i];
      const planner::Setting setting{candidate.job, resolved.machine, resolved.facts};
      const auto strategy = planner::with_stages(setting, candidate.strategy);
      evaluations[i] = strategy ? planner::evaluate(setting, *strategy)
                                : Result<planner::Evaluation>(strategy.error());
    });
    std::vector<EstimateRow> rows;
    for (std::size_t i = 0; i < evaluations.size(); ++i) {
      Result<planner::Evaluation>& evaluation = *evaluations[i];
      if (!evaluation) return evaluation.error();
      rows.push_back({std::move((*candidates)[i].job), *std::move(evaluation)});
    }
    return rows;
  }

  [[nodiscard]] Json as_json(const Resolved& resolved, const std::vector<EstimateRow>& rows) const {
    Json list = Json::array();
    for (const EstimateRow& row : rows) {
      const RankPrediction& p = row.evaluation.prediction;
      list.push_back({{"method", to_text(row.job.request.method.method)},
                      {"zero", row.strategy().zero},
                      {"layout", layout_of(row)},
                      {"strategy", to_json(row.strategy())},
                      {"trainable_parameters", estimator::trainable_parameters(row.job)},
                      {"fits", to_text(row.evaluation.judgement.fits)},
                      {"headroom_bytes", headroom(row)},
                      {"host_fits", to_text(row.evaluation.judgement.host)},
                      {"disk_fits", to_text(row.evaluation.judgement.disk)},
                      {"worst_rank", p.rank},
                      {"peak_instruction", p.peak_instruction},
                      {"basis", to_text(p.basis)},
                      {"uncertainty_bytes", p.uncertainty.value},
                      {"lower_bound_bytes", p.lower_bound.value},
                      {"persistent_bytes", p.persistent.value},
                      {"device", to_json(p.device)},
                      {"host", to_json(p.host)},
                      {"disk", to_json(p.disk)}});
    }
    const Job& job = resolved.job;
    const auto bytes = [](const std::optional<Bytes>& known) {
      return known ? Json(known->value) : Json(nullptr);
    };
    Json json = {
        {"format_version", 1},
        {"model", {{"name", job.model.name}, {"parameters", models::count_parameters(job.model)}}},
        {"devices",
         {{"name", resolved.machine.name},
          {"count", job.ranks()},
          {"memory_bytes", bytes(resolved.machine.device_memory)},
          {"host_memory_bytes", bytes(resolved.machine.host_memory)},
          {"disk_bytes", bytes(resolved.machine.disk)}}},
        {"rows", std::move(list)},
        {"notes", resolved.notes},
        {"not_built", not_built(resolved)}};
    if (imported_) {
      json["from"] = {{"trainer", imported_->trainer},
                      {"runtime", job.request.runtime},
                      {"left_out", imported_->left_out}};
    }
    return json;
  }

  static Json headroom(const EstimateRow& row) {
    return row.evaluation.judgement.limit ? Json(row.evaluation.judgement.headroom.value)
                                          : Json(nullptr);
  }

  // What the other trainer's file has become.
  [[nodiscard]] std::vector<std::string> origin(const Resolved& resolved) const {
    if (!imported_) return {};
    std::vector<std::string> lines = {*from_ + ", a configuration of " + imported_->trainer +
                                      ", as " + resolved.job.request.runtime + " would train it"};
    for (const std::string& key : imported_->left_out)
      lines.push_back(key + " is left out: not known to ftplan");
    return lines;
  }

  // How far the answer could grow, and how few devices would do.
  static Result<void> find_room(EstimateScreen& screen) {
    const Resolved& resolved = screen.resolved;
    const EstimateRow* best = best_of(screen.rows);
    const EstimateRow& row = best == nullptr ? least_of(screen.rows) : *best;
    const planner::Setting setting{row.job, resolved.machine, resolved.facts};
    const std::int64_t here = row.job.ranks();
    const bool of_gpus =
        resolved.machine.backend == Backend::kCuda && row.evaluation.judgement.limit.has_value();
    Result<planner::Room> room = planner::Room{};
    Result<std::optional<planner::FewestDevices>> fewest = std::optional<planner::FewestDevices>{};
    in_parallel(2, [&](std::size_t question) {
      if (question == 0 && best != nullptr && !resolved.facts) {
        room = planner::room_left(setting, row.evaluation);
      } else if (question == 1 && of_gpus) {
        fewest = planner::fewest_devices(setting, row.strategy(), best == nullptr ? here + 1 : 1,
                                         best == nullptr ? kMostDevices : here - 1);
      }
    });
    if (!room) return room.error();
    if (!fewest) return fewest.error();
    screen.room = *room;
    screen.fewest = *std::move(fewest);
    return {};
  }

  JobFlags flags_;
  std::optional<std::string> from_;
  std::optional<ImportedJob> imported_;
  bool all_ = false;
  bool json_ = false;
};

}  // namespace

CommandRow estimate_command() {
  return {"estimate", "Bytes per device for every method and layout that is built, and what fits.",
          "ftplan estimate --model llama2-70b --gpus 8xT4",
          [] { return std::make_unique<Estimate>(); }};
}

}  // namespace ftplan::tools

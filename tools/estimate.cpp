#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/devices.h"
#include "core/enums.h"
#include "core/job.h"
#include "core/json.h"
#include "core/linear_value.h"
#include "core/machine.h"
#include "core/method.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/strategy.h"
#include "core/text.h"
#include "core/units.h"
#include "estimator/hardware.h"
#include "estimator/predict.h"
#include "models/family.h"
#include "models/hub_cache.h"
#include "models/presets.h"
#include "planner/search.h"
#include "tools/commands.h"
#include "tools/environment.h"
#include "tools/import/imported_job.h"
#include "tools/job_flags.h"
#include "tools/options.h"
#include "tools/resolve.h"
#include "tools/table.h"

namespace ftplan::tools {
namespace {

constexpr const char* kNotBuilt =
    "not built yet: ZeRO-2 and 3, offload, pipelines, seconds and cost";

constexpr const char* kOwnRuntime = "ftplan";
constexpr const char* kTransformersRuntime = "hf";

struct Row {
  Job job;
  planner::Evaluation evaluation;
  [[nodiscard]] const Strategy& strategy() const { return evaluation.strategy; }
  [[nodiscard]] const PlaceBytes& device() const { return evaluation.prediction.device; }
};

// GiB, or MiB for models that are small beside one.
struct Unit {
  const char* name = "GiB";
  Bytes bytes = kGiB;
  [[nodiscard]] std::string show(Bytes value) const {
    return format_fixed(static_cast<double>(value.value) / static_cast<double>(bytes.value), 2);
  }
};

Unit unit_of(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    if (row.device().peak >= kGiB) return {};
  }
  return {.name = "MiB", .bytes = kMiB};
}

std::string title(const Job& job) { return std::string(title_of(job.request.method.method)); }

std::string layout_of(const Row& row) {
  return row.job.ranks() == 1 ? "one device" : "ZeRO-" + std::to_string(row.strategy().zero);
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
    auto room = room_left(resolved, rows);
    if (!room) return room.error();
    print(screen(resolved, rows) + *room);
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
    const auto devices = parse_devices(request->devices.gpus);
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
    std::vector<Row> rows;
  };
  Result<Answer> answer_to(const JobRequest& request) const {
    auto resolved = resolve(request);
    if (!resolved) return resolved.error();
    auto rows = all_rows(*resolved);
    if (!rows) return rows.error();
    return Answer{*std::move(resolved), *std::move(rows)};
  }

  // Every method that is built with every layout that the request leaves open.
  Result<std::vector<Row>> all_rows(const Resolved& resolved) const {
    std::vector<Row> rows;
    for (const Method method : {Method::kFull, Method::kLora, Method::kInt8Lora, Method::kQlora}) {
      JobRequest request = resolved.job.request;
      if (is_quantized(method) && request.runtime != kOwnRuntime) continue;
      const bool fixed = flags_.given("method") || flags_.given("adapter") ||
                         (imported_ && imported_->sets("/method/method"));
      if (fixed && request.method.method != method) continue;
      request.method.method = method;
      auto job = validate(request, resolved.job.model, resolved.facts);
      if (!job) return job.error();
      for (const std::int64_t zero : job->zero_choices) {
        for (const Checkpointing checkpointing : job->checkpointing_choices) {
          const Strategy strategy =
              planner::strategy_of(*job, checkpointing, zero, job->micro_batch_choices.back());
          auto evaluation = planner::evaluate({*job, resolved.machine, resolved.facts}, strategy);
          if (!evaluation) return evaluation.error();
          rows.push_back({*job, *std::move(evaluation)});
        }
      }
    }
    return rows;
  }

  [[nodiscard]] Json as_json(const Resolved& resolved, const std::vector<Row>& rows) const {
    Json list = Json::array();
    for (const Row& row : rows) {
      const RankPrediction& p = row.evaluation.prediction;
      list.push_back({{"method", to_text(row.job.request.method.method)},
                      {"zero", row.strategy().zero},
                      {"layout", layout_of(row)},
                      {"strategy", to_json(row.strategy())},
                      {"trainable_parameters", estimator::trainable_parameters(row.job)},
                      {"fits", to_text(row.evaluation.judgement.fits)},
                      {"headroom_bytes", headroom(row)},
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
    const auto memory = resolved.machine.device_memory;
    Json json = {
        {"format_version", 1},
        {"model", {{"name", job.model.name}, {"parameters", models::count_parameters(job.model)}}},
        {"devices",
         {{"name", resolved.machine.name},
          {"count", job.ranks()},
          {"memory_bytes", memory ? Json(memory->value) : Json(nullptr)}}},
        {"rows", std::move(list)},
        {"notes", resolved.notes},
        {"not_built", kNotBuilt}};
    if (imported_) {
      json["from"] = {{"trainer", imported_->trainer},
                      {"runtime", job.request.runtime},
                      {"left_out", imported_->left_out}};
    }
    return json;
  }

  static Json headroom(const Row& row) {
    return row.evaluation.judgement.limit ? Json(row.evaluation.judgement.headroom.value)
                                          : Json(nullptr);
  }

  [[nodiscard]] std::string screen(const Resolved& resolved, const std::vector<Row>& rows) const {
    return head(resolved, rows) + origin(resolved) + "\n" + table(resolved, rows) + kNotBuilt +
           "\n\n" + answer(rows);
  }

  static std::string head(const Resolved& resolved, const std::vector<Row>& rows) {
    const Job& job = resolved.job;
    const std::int64_t parameters = models::count_parameters(job.model);
    std::string text = job.model.name + "   " + format_count(parameters) + " parameters, " +
                       std::to_string(job.model.layers) + " layers, " +
                       format_bytes(Bytes{2 * parameters}) + " in 16 bit\n";
    text += std::to_string(job.ranks()) + " x " + resolved.machine.name + "   " +
            memory_text(resolved) + "\n";
    const Strategy& strategy = rows.front().strategy();
    text += "assumed   " + std::to_string(strategy.micro_batch) + " x " +
            std::to_string(job.sequence) + " tokens a device and pass, " +
            std::to_string(strategy.accumulation) +
            (strategy.accumulation == 1 ? " pass a step, " : " passes a step, ") +
            to_text(job.request.method.precision) + ", " + to_text(job.request.method.optimizer);
    for (const Row& row : rows) {
      if (!row.job.lora()) continue;
      text += ", LoRA r=" + std::to_string(job.request.method.rank);
      for (const LinearValue& entry : job.request.method.rank_pattern) text += "," + to_text(entry);
      text += " " + join(job.request.method.targets, ",") + " (" +
              format_count(estimator::trainable_parameters(row.job)) + ")";
      break;
    }
    text += "\n";
    const bool quantized =
        std::any_of(rows.begin(), rows.end(), [](const Row& row) { return row.job.quantized(); });
    if (quantized && resolved.machine.backend == Backend::kCuda)
      text +=
          "note      quantized: scratch holds one whole dequantized weight, as with bitsandbytes\n";
    for (const std::string& note : resolved.notes) text += "note      " + note + "\n";
    return text;
  }

  // What the other trainer's file has become.
  [[nodiscard]] std::string origin(const Resolved& resolved) const {
    if (!imported_) return "";
    std::string text = "from      " + *from_ + ", a configuration of " + imported_->trainer +
                       ", as " + resolved.job.request.runtime + " would train it\n";
    for (const std::string& key : imported_->left_out)
      text += "left out  " + key + ": not known to ftplan\n";
    return text;
  }

  static std::string memory_text(const Resolved& resolved) {
    const Machine& machine = resolved.machine;
    if (!machine.device_memory) return "memory not known";
    std::string text = format_bytes(*machine.device_memory) + " usable";
    if (machine.backend == Backend::kCpu) {
      return text + ", " + std::to_string(machine.threads) + " threads" +
             (machine.instruction_set.empty() ? "" : ", " + machine.instruction_set);
    }
    const estimator::Hardware* entry = estimator::find_hardware(machine.name);
    if (entry != nullptr) text += " each (sold as " + entry->sold_as + ")";
    return text + ", host RAM " +
           (machine.host_memory ? format_bytes(*machine.host_memory) : "not known");
  }

  static std::string table(const Resolved& resolved, const std::vector<Row>& rows) {
    const auto limit = resolved.machine.device_memory;
    const Unit unit = unit_of(rows);
    Table table{.head = {std::string(unit.name) + " a device", "layout", "checkpointing", "weights",
                         "grads", "optim", "activations", "scratch", "other", "peak", "interval",
                         limit ? "fits " + unit.show(*limit) + "?" : "fits"},
                .left = 3};
    constexpr std::ptrdiff_t kOptimizerColumn = 5;
    const bool paged = rows.front().job.pages_states();
    if (paged) table.head.insert(table.head.begin() + kOptimizerColumn + 1, "on host");
    for (const Row& row : rows) {
      const PlaceBytes& d = row.device();
      table.rows.push_back(
          {title(row.job), layout_of(row), to_text(row.strategy().checkpointing),
           unit.show(d.weights + d.adapters), unit.show(d.gradients), unit.show(d.optimizer),
           unit.show(d.activations + d.checkpoints + d.logits), unit.show(d.scratch),
           unit.show(d.gathered + d.buckets + d.inputs + d.runtime + d.unused), unit.show(d.peak),
           interval_text(row, resolved.machine.backend, unit),
           fits_text(row.evaluation.judgement, unit)});
      if (!paged) continue;
      auto& cells = table.rows.back();
      cells.insert(cells.begin() + kOptimizerColumn + 1,
                   unit.show(row.evaluation.prediction.host.optimizer));
    }
    return render_table(table);
  }

  // On cpu the peak is a bound that can only be lower.
  static std::string interval_text(const Row& row, Backend backend, Unit unit) {
    const Bytes width = row.evaluation.prediction.uncertainty;
    if (width == Bytes{}) return "exact";
    return (backend == Backend::kCpu ? "-" : "+-") + unit.show(width);
  }

  static std::string fits_text(const estimator::Judgement& judgement, Unit unit) {
    switch (judgement.fits) {
      case Fits::kYes:
        return "yes    " + unit.show(judgement.headroom);
      case Fits::kTight:
        return "tight " + unit.show(judgement.headroom);
      case Fits::kNo:
        return "short  " + unit.show(Bytes{} - judgement.headroom);
      case Fits::kUnknown:
        break;
    }
    return "unknown";
  }

  // The row that a plan would begin with: least recomputation first.
  static const Row* best(const std::vector<Row>& rows) {
    for (const Row& row : rows) {
      if (row.evaluation.judgement.fits == Fits::kYes) return &row;
    }
    return nullptr;
  }

  static std::string answer(const std::vector<Row>& rows) {
    const Row* row = best(rows);
    if (row != nullptr) {
      return std::string("Yes: ") + title(row->job) + " with checkpointing " +
             to_text(row->strategy().checkpointing) + ", " +
             format_bytes(row->evaluation.judgement.need) + " of " +
             format_bytes(*row->evaluation.judgement.limit) +
             " a device. The peak is at: " + row->evaluation.prediction.peak_instruction + ".\n";
    }
    const Row* least = &rows.front();
    for (const Row& other : rows) {
      if (other.evaluation.judgement.need < least->evaluation.judgement.need) least = &other;
    }
    const bool on_host = least->evaluation.judgement.place == Place::kHost;
    const std::string need = format_bytes(least->evaluation.judgement.need) +
                             (on_host ? " a host (" : " a device (") + title(least->job) +
                             ", checkpointing " + to_text(least->strategy().checkpointing) + ")";
    if (!least->evaluation.judgement.limit)
      return "Not judged: the memory is not known. The least is " + need + ".\n";
    return "No: nothing that is built fits. The least is " + need + ".\n";
  }

  // The largest power of two by which batch or rows may grow.
  Result<std::string> room_left(const Resolved& resolved, const std::vector<Row>& rows) const {
    const Row* row = best(rows);
    std::string text;
    if (row != nullptr && !resolved.facts) {
      const auto batch = grow(resolved, *row, /*in_rows=*/true);
      if (!batch) return batch.error();
      const auto tokens = grow(resolved, *row, /*in_rows=*/false);
      if (!tokens) return tokens.error();
      const bool larger = *batch > row->strategy().micro_batch;
      const bool longer = *tokens > row->job.sequence;
      if (larger || longer) text = "Room left: ";
      if (larger) text += "micro-batch " + std::to_string(*batch) + (longer ? ", or " : "\n");
      if (longer) text += "rows of " + std::to_string(*tokens) + " tokens\n";
    }
    const JobRequest& asked = row == nullptr ? resolved.job.request : row->job.request;
    const std::string base = " --model " + asked.model + " --method " +
                             to_text(asked.method.method) + " --gpus " + asked.devices.gpus;
    return text + "Next:  ftplan plan" + base + " --data my.jsonl -o plan.json\n" +
           "       ftplan explain plan.json     where the bytes are, what each knob changes\n";
  }

  static Result<std::int64_t> grow(const Resolved& resolved, const Row& row, bool in_rows) {
    constexpr std::int64_t kMost = 1024;
    std::int64_t good = in_rows ? row.strategy().micro_batch : row.job.sequence;
    const std::int64_t limit = in_rows ? kMost : row.job.model.positions;
    while (good * 2 <= limit) {
      Job job = row.job;
      Strategy strategy = row.strategy();
      (in_rows ? strategy.micro_batch : job.sequence) = good * 2;
      auto tried = planner::evaluate({job, resolved.machine, resolved.facts}, strategy);
      if (!tried) return tried.error();
      if (tried->judgement.fits != Fits::kYes) break;
      good *= 2;
    }
    return good;
  }

  JobFlags flags_;
  std::optional<std::string> from_;
  std::optional<ImportedJob> imported_;
  bool json_ = false;
};

}  // namespace

CommandRow estimate_command() {
  return {"estimate", "Bytes per device for every method and layout that is built, and what fits.",
          "ftplan estimate --model llama2-7b --gpus 1xA100-80GB",
          [] { return std::make_unique<Estimate>(); }};
}

}  // namespace ftplan::tools

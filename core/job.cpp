#include "core/job.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/data_options.h"
#include "core/devices.h"
#include "core/enums.h"
#include "core/fields.h"
#include "core/linear_value.h"
#include "core/loss_scale.h"
#include "core/method.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/strategy.h"
#include "core/text.h"
#include "core/training.h"
#include "core/units.h"

namespace ftplan {
namespace {

constexpr std::int64_t kDefaultSequence = 2048;
constexpr std::int64_t kDefaultGlobalBatch = 16;

std::string not_built(const std::string& what, const std::string& instead) {
  return what + " is not built yet: " + instead;
}

Result<void> check_method(const MethodOptions& method, const std::string& runtime) {
  if (is_quantized(method.method) && runtime != "ftplan") {
    return bad_input("--method",
                     not_built(std::string(to_text(method.method)) + " for --runtime " + runtime,
                               "use lora or full"));
  }
  const std::array built = {Precision::kAuto, Precision::kFp32, Precision::kBf16, Precision::kFp16};
  if (std::find(built.begin(), built.end(), method.precision) == built.end()) {
    return bad_input("--precision", not_built(to_text(method.precision), "use bf16, fp16 or fp32"));
  }
  return {};
}

// Codes that stand in the files are used as they are.
Result<void> check_base(const MethodOptions& method, const ModelConfig& model) {
  const StoredLinears stored = model.stored_linears;
  if (stored == StoredLinears::kPlain) return {};
  const Method needed = method_for(stored);
  if (method.method != needed) {
    return bad_input("--method", std::string("got ") + to_text(method.method) + ", but " +
                                     model.name + " holds its linears as " + to_text(stored) +
                                     ": use " + to_text(needed));
  }
  const bool twice = stored == StoredLinears::kNf4Double;
  if (needed == Method::kInt8Lora || method.double_quantization == twice) return {};
  return bad_input(
      twice ? "--no-double-quantization" : "--double-quantization",
      model.name + " holds its linears as " + to_text(stored) + ": leave this flag away");
}

Result<void> check_loss_scale(const JobRequest& request) {
  const auto& scale = request.training.loss_scale;
  if (!scale || scales_loss(request.method.precision)) return {};
  return bad_input("--loss-scale", "got " + format_number(*scale) + " with " +
                                       to_text(request.method.precision) +
                                       ": only fp16 scales its loss, use --precision fp16");
}

Result<void> check_optimizer(const JobRequest& request) {
  const Optimizer optimizer = request.method.optimizer;
  const std::string name = to_text(optimizer);
  if (optimizer != Optimizer::kAdamw && request.runtime != "ftplan") {
    return bad_input("--optimizer",
                     not_built(name + " for --runtime " + request.runtime, "use adamw"));
  }
  if (request.training.momentum > 0 && optimizer != Optimizer::kSgd) {
    return bad_input("--momentum", "got " + format_number(request.training.momentum) + " with " +
                                       name + ": only sgd has momentum, use --optimizer sgd");
  }
  return {};
}

// A layer that is updated in the backward cannot wait for what is known when the backward ends.
Result<void> check_update_in_backward(const Job& job) {
  const TrainingOptions& training = job.request.training;
  if (!training.update_in_backward) return {};
  const char* flag = "--update-in-backward";
  if (training.clip > 0) {
    return bad_input(flag, "clipping to " + format_number(training.clip) +
                               " needs the gradients of all layers before the first update: "
                               "use --clip 0");
  }
  if (training.accumulation.value_or(1) > 1) {
    return bad_input(flag, "--accumulation " + std::to_string(*training.accumulation) +
                               " needs the gradients of all layers until the last pass: "
                               "use --accumulation 1");
  }
  if (scales_loss(job.request.method.precision)) {
    return bad_input(flag,
                     "the loss scale of fp16 skips whole steps, which is known when the "
                     "backward has ended: use --precision bf16 or fp32");
  }
  if (job.ranks() > 1)
    return bad_input(flag, not_built("the update in the backward on several ranks", "use one"));
  if (job.request.runtime != "ftplan")
    return bad_input(flag, not_built("it for --runtime " + job.request.runtime, "leave it out"));
  return {};
}

Result<std::size_t> linear_of(const std::string& name, const std::vector<std::string>& known,
                              const char* flag, const char* also) {
  const auto found = std::find(known.begin(), known.end(), name);
  if (found != known.end()) return static_cast<std::size_t>(found - known.begin());
  return bad_input(flag, "got \"" + name + "\", expected " + also + "some of " + join(known, ","));
}

// The value of each linear: the one of the pattern where it has one.
Result<std::vector<double>> resolve_pattern(const std::vector<LinearValue>& pattern, double value,
                                            Range range, const std::vector<std::string>& known,
                                            const char* flag) {
  std::vector<double> values(known.size(), value);
  for (const LinearValue& entry : pattern) {
    const auto linear = linear_of(entry.linear, known, flag, "");
    if (!linear) return linear.error();
    if (entry.value < range.low || entry.value > range.high) {
      return bad_input(flag, "got " + to_text(entry) + ", expected " + format_number(range.low) +
                                 ".." + format_number(range.high));
    }
    values[*linear] = entry.value;
  }
  return values;
}

Result<std::vector<LoraShape>> resolve_adapters(const MethodOptions& method, Family family) {
  const std::vector<std::string>& known = adapted_names(family);
  std::vector<LoraShape> adapters(known.size());
  if (method.method == Method::kFull) return adapters;
  const auto ranks = resolve_pattern(method.rank_pattern, static_cast<double>(method.rank),
                                     {1, 1 << 14}, known, "--rank-pattern");
  if (!ranks) return ranks.error();
  const auto alphas =
      resolve_pattern(method.alpha_pattern, method.alpha, {0, 1e6}, known, "--alpha-pattern");
  if (!alphas) return alphas.error();
  for (std::size_t linear = 0; linear < known.size(); ++linear) {
    const double rank = (*ranks)[linear];
    if (rank != std::floor(rank)) {
      return bad_input("--rank-pattern",
                       "got " + format_number(rank) + ", expected a whole number");
    }
  }
  for (const std::string& target : method.targets) {
    std::vector<std::size_t> named(linear_names(family).size());
    std::iota(named.begin(), named.end(), std::size_t{0});
    if (target != "all-linear") {
      const auto linear = linear_of(target, known, "--targets", "all-linear or ");
      if (!linear) return linear.error();
      named = {*linear};
    }
    for (const std::size_t linear : named) {
      const double rank = (*ranks)[linear];
      adapters[linear] = {static_cast<std::int64_t>(rank),
                          lora_scale((*alphas)[linear], rank, method.rslora)};
    }
  }
  if (method.targets.empty()) {
    return bad_input("--targets", "nothing to adapt: name at least one linear or all-linear");
  }
  return adapters;
}

Result<void> check_modules(const JobRequest& request) {
  const MethodOptions& method = request.method;
  if (method.modules_to_save.empty()) return {};
  const std::string got = "got " + join(method.modules_to_save, ",") + " with ";
  if (method.method == Method::kFull) {
    return bad_input("--modules-to-save",
                     got + "--method full, which trains every weight: leave it out");
  }
  if (request.runtime != "ftplan") {
    return bad_input("--modules-to-save",
                     not_built(got + "--runtime " + request.runtime, "use --runtime ftplan"));
  }
  return {};
}

// Rows of new tokens that stay as they begin say nothing.
Result<void> check_new_rows(const Job& job) {
  const ModelConfig& model = job.model;
  const bool grown = model.stored_vocabulary > 0;
  if (!grown && job.request.data.add_tokens.empty()) return {};
  const std::vector<std::string> known = whole_module_names(model);
  const bool embedding = job.trains(known.front() + ".weight");
  const bool head = model.tied_embeddings ? embedding : job.trains(known.back() + ".weight");
  if (embedding && head) return {};
  const auto& names = adapted_names(model.family);
  const bool adapted = job.embedding_adapter().rank > 0 && job.head_adapter().rank > 0;
  if (!grown && adapted) return {};
  const std::string modules = names[static_cast<std::size_t>(embedding_index(model.family))] +
                              (model.tied_embeddings ? " --ensure-weight-tying" : ",lm_head");
  return bad_input(job.request.data.add_tokens.empty() ? "--pad-vocabulary-to" : "--add-tokens",
                   "the rows of new tokens in embedding and head must be trained: use --method "
                   "full, or --modules-to-save " +
                       modules);
}

// Adapters on the embedding and the head.
Result<void> check_edges(const Job& job) {
  const auto& names = adapted_names(job.model.family);
  for (const int edge : {embedding_index(job.model.family), head_index(job.model.family)}) {
    if (job.adapter(edge).rank == 0) continue;
    const std::string& name = names[static_cast<std::size_t>(edge)];
    const auto is_edge = [&](const std::string& module) { return module.ends_with(name); };
    if (std::any_of(job.whole_modules.begin(), job.whole_modules.end(), is_edge)) {
      return bad_input("--targets", "got " + name + ", which --modules-to-save trains in full: " +
                                        "leave it out of one of them");
    }
    if (job.model.tied_embeddings && job.request.method.ensure_weight_tying) {
      return bad_input("--targets", not_built("got " + name + ": one adapter of a tied pair",
                                              "leave --ensure-weight-tying out"));
    }
    if (job.request.runtime != "ftplan") {
      return bad_input("--targets",
                       not_built("got " + name + " with --runtime " + job.request.runtime,
                                 "use --runtime ftplan"));
    }
  }
  return {};
}

// Each layer once, in their order.
Result<void> resolve_layers(Job& job) {
  std::vector<std::int64_t>& layers = job.request.method.layers_to_transform;
  if (layers.empty()) return {};
  constexpr const char* kFlag = "--layers-to-transform";
  if (!job.lora()) {
    return bad_input(kFlag, "is for adapters, but --method full trains every layer: leave it out");
  }
  if (job.request.runtime != "ftplan") {
    return bad_input(kFlag, not_built("it for --runtime " + job.request.runtime, "leave it out"));
  }
  std::sort(layers.begin(), layers.end());
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  if (layers.back() < job.model.layers) return {};
  return bad_input(kFlag, "got " + std::to_string(layers.back()) + ", but " + job.model.name +
                              " has the layers 0 to " + std::to_string(job.model.layers - 1));
}

Result<std::int64_t> resolve_sequence(const DataOptions& data, const ModelConfig& model,
                                      const std::optional<DataFacts>& facts) {
  const std::int64_t limit = data.seq.value_or(std::min(kDefaultSequence, model.positions));
  if (limit > model.positions) {
    return bad_input("--seq", "got " + std::to_string(limit) + ", but " + model.name + " has " +
                                  std::to_string(model.positions) + " positions: use --seq " +
                                  std::to_string(model.positions) + " or less");
  }
  if (!facts) return limit;
  // Packed rows have no padding to round up, but a batch of short rows is still padded to its
  // longest.
  return std::min(round_up(facts->longest, data.pad_multiple), round_up(limit, data.pad_multiple));
}

Result<void> check_training(const TrainingOptions& training) {
  if (training.betas.size() != 2) {
    return bad_input("--betas", "got " + std::to_string(training.betas.size()) +
                                    " numbers, expected two, such as 0.9,0.999");
  }
  if (!training.steps && training.epochs <= 0) {
    return bad_input("--epochs", "got 0 and no --steps: nothing to do");
  }
  if (training.early_stopping_threshold > 0 && !training.early_stopping_patience) {
    return bad_input("--early-stopping-threshold",
                     "nothing stops early without --early-stopping-patience: give both");
  }
  if (training.save_total_limit > 1 && training.save_every == Cadence{}) {
    return bad_input("--save-total-limit", "got " + std::to_string(training.save_total_limit) +
                                               ", but only the end is saved: give --save-every");
  }
  return {};
}

// What is done with evaluations needs some, and these need rows.
Result<void> check_evaluation(const JobRequest& request, const std::optional<DataFacts>& facts) {
  const TrainingOptions& training = request.training;
  const std::array<std::pair<bool, const char*>, 4> uses = {
      {{training.load_best_model_at_end, "--load-best-model-at-end"},
       {training.early_stopping_patience.has_value(), "--early-stopping-patience"},
       {training.eval_delay > 0, "--eval-delay"},
       {training.eval_every.steps > 0, "--eval-every"}}};
  for (const auto& [asked, flag] : uses) {
    if (!asked) continue;
    if (training.eval_every == Cadence{}) {
      return bad_input(flag, "nothing is evaluated with --eval-every none: give epoch or steps");
    }
    if (request.data.validation <= 0) {
      return bad_input(flag, "no rows are held out to evaluate: give --validation, such as 0.05");
    }
    if (facts && facts->validation_rows == 0) {
      return bad_input(flag, "--validation " + format_number(request.data.validation) +
                                 " holds out none of " + std::to_string(facts->rows) +
                                 " rows: give a larger share");
    }
  }
  return {};
}

// Batch sizes per rank that the micro-batch may take, and the global batch they add up to.
Result<void> resolve_batch(const TrainingOptions& training, Job& job) {
  const std::int64_t ranks = job.data_parallel();
  const std::int64_t micro = training.micro_batch.value_or(1);
  const std::optional<std::int64_t> given =
      training.update_in_backward ? std::optional<std::int64_t>(1) : training.accumulation;
  const std::int64_t accumulation = given.value_or(1);
  const std::int64_t step = ranks * micro * accumulation;
  const bool product = training.micro_batch && given;
  job.global_batch =
      training.global_batch.value_or(product ? step : round_up(kDefaultGlobalBatch, step));
  if (job.global_batch % step != 0 || (product && job.global_batch != step)) {
    return bad_input("--global-batch", "got " + std::to_string(job.global_batch) + ", expected " +
                                           (product ? "" : "a multiple of ") +
                                           std::to_string(step) +
                                           " = micro-batch x accumulation x " +
                                           (job.stages() > 1 ? "data-parallel ranks" : "ranks"));
  }
  const std::int64_t per_rank = job.global_batch / ranks;
  for (std::int64_t candidate = per_rank; candidate >= 1; --candidate) {
    if (per_rank % candidate != 0) continue;
    if (training.micro_batch && *training.micro_batch != candidate) continue;
    if (given && *given != per_rank / candidate) continue;
    job.micro_batch_choices.push_back(candidate);
  }
  return {};
}

Result<void> check_pipeline(const Job& job) {
  const LayoutOptions& layout = job.request.layout;
  if (!layout.pipeline) return {};
  const char* flag = "--pipeline";
  const std::string got = std::string("got ") + to_text(*layout.pipeline);
  if (*layout.pipeline != Pipeline::kNaive)
    return bad_input(flag, not_built(to_text(*layout.pipeline), "use naive"));
  if (job.ranks() == 1)
    return bad_input(flag, got + " on one device: leave it out, or give more devices");
  if (job.ranks() > job.model.layers) {
    return bad_input(flag, got + " on " + std::to_string(job.ranks()) + " devices, but " +
                               job.model.name + " has " + std::to_string(job.model.layers) +
                               " layers: give fewer devices");
  }
  if (layout.zero.value_or(0) > 0)
    return bad_input(flag, not_built("ZeRO over the stages of a pipeline", "use --zero 0"));
  const bool embedding_learns = job.trains(whole_module_names(job.model).front());
  if (job.model.tied_embeddings && embedding_learns) {
    return bad_input(flag, not_built("an embedding that is the head, too, and learns",
                                     "leave the pipeline out, or train adapters"));
  }
  if (job.request.runtime != "ftplan")
    return bad_input(flag,
                     not_built(got + " for --runtime " + job.request.runtime, "leave it out"));
  return {};
}

Result<void> resolve_layout(const LayoutOptions& layout, Job& job) {
  if (auto ok = check_pipeline(job); !ok) return ok.error();
  const std::string& runtime = job.request.runtime;
  const std::int64_t built = runtime == "ftplan" ? 3 : 1;
  if (layout.zero.value_or(0) > built) {
    return bad_input("--zero",
                     not_built("ZeRO-" + std::to_string(*layout.zero) + " for --runtime " + runtime,
                               "use 0 or 1"));
  }
  const std::int64_t most = job.data_parallel() > 1 ? built : 0;
  if (layout.zero) {
    job.zero_choices = {*layout.zero};
  } else {
    for (std::int64_t stage = 0; stage <= most; ++stage) job.zero_choices.push_back(stage);
  }
  if (layout.checkpointing) {
    if (layout.checkpointing->every > job.model.layers) {
      return bad_input("--checkpointing", "got " + to_text(*layout.checkpointing) + ", but " +
                                              job.model.name + " has " +
                                              std::to_string(job.model.layers) + " layers");
    }
    job.checkpointing_choices = {*layout.checkpointing};
  } else {
    // Least recomputation first: nothing, then every layer on its own.
    job.checkpointing_choices = {Checkpointing{.every = 0}, Checkpointing{.every = 1}};
  }
  return {};
}

}  // namespace

const std::vector<std::string>& linear_names(Family family) {
  static const std::vector<std::string> kSeparate = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                     "gate_proj", "up_proj", "down_proj"};
  static const std::vector<std::string> kFused = {"qkv_proj", "o_proj", "gate_up_proj",
                                                  "down_proj"};
  static const std::vector<std::string> kFalcon = {"query_key_value", "dense", "dense_h_to_4h",
                                                   "dense_4h_to_h"};
  // Experts are no linears of their own: adapters leave them alone.
  static const std::vector<std::string> kAttention = {"q_proj", "k_proj", "v_proj", "o_proj"};
  if (family == Family::kFalcon) return kFalcon;
  if (family == Family::kMixtral) return kAttention;
  return family == Family::kPhi3 ? kFused : kSeparate;
}

const std::vector<std::string>& adapted_names(Family family) {
  static const auto kNames = [] {
    std::map<Family, std::vector<std::string>> all;
    for (const auto& [value, name] : names<Family>) {
      all[value] = linear_names(value);
      all[value].emplace_back(value == Family::kFalcon ? "word_embeddings" : "embed_tokens");
      all[value].emplace_back("lm_head");
    }
    return all;
  }();
  return kNames.at(family);
}

int embedding_index(Family family) { return static_cast<int>(linear_names(family).size()); }
int head_index(Family family) { return embedding_index(family) + 1; }

std::vector<std::string> whole_module_names(const ModelConfig& model) {
  const bool falcon = model.family == Family::kFalcon;
  std::vector<std::string> names = {falcon ? "transformer.word_embeddings" : "model.embed_tokens"};
  const auto add = [&](std::initializer_list<const char*> more) {
    names.insert(names.end(), more.begin(), more.end());
  };
  if (falcon && model.parallel && !model.shared_norm) {
    add({"ln_attn", "ln_mlp"});
  } else {
    add({"input_layernorm"});
  }
  if (model.family == Family::kQwen3) add({"self_attn.q_norm", "self_attn.k_norm"});
  if (!falcon || !model.parallel) add({"post_attention_layernorm"});
  if (model.family == Family::kGemma2)
    add({"pre_feedforward_layernorm", "post_feedforward_layernorm"});
  add({falcon ? "transformer.ln_f" : "model.norm", "lm_head"});
  return names;
}

Result<std::vector<std::string>> resolve_modules(const MethodOptions& method,
                                                 const ModelConfig& model,
                                                 const std::string& where) {
  const std::vector<std::string> known = whole_module_names(model);
  std::vector<bool> chosen(known.size());
  for (const std::string& wanted : method.modules_to_save) {
    const auto fits = [&](const std::string& name) {
      return !wanted.empty() && name.ends_with(wanted);
    };
    const auto& linears = linear_names(model.family);
    if (std::any_of(linears.begin(), linears.end(), fits)) {
      return bad_input(where, not_built("got \"" + wanted + "\": a linear in full beside adapters",
                                        "adapt it, or use --method full"));
    }
    if (std::none_of(known.begin(), known.end(), fits)) {
      return bad_input(where, "got \"" + wanted + "\", expected some of " + join(known, ","));
    }
    for (std::size_t i = 0; i < known.size(); ++i) chosen[i] = chosen[i] || fits(known[i]);
  }
  if (model.tied_embeddings && !known.empty() && (chosen.front() || chosen.back())) {
    const std::string tied = "the embedding and the head of this model are one tensor";
    if (!method.ensure_weight_tying) {
      return bad_input(where, not_built(tied + ", and training them apart, as PEFT does",
                                        "train them as one with --ensure-weight-tying"));
    }
    // @source PEFT 0.21.2 utils/other.py, EMBEDDING_LAYER_NAMES
    if (model.family == Family::kFalcon) {
      return bad_input(where, tied +
                                  ", and PEFT keeps such pairs together only where they are "
                                  "embed_tokens and lm_head: use --method full");
    }
    chosen.front() = true;
    chosen.back() = false;
  }
  std::vector<std::string> modules;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (chosen[i]) modules.push_back(known[i]);
  }
  return modules;
}

bool is_of(const std::vector<std::string>& modules, const std::string& weight) {
  const std::string module = weight.substr(0, weight.rfind('.'));
  return std::find(modules.begin(), modules.end(), module) != modules.end();
}

Result<Job> validate(const JobRequest& request, const ModelConfig& model,
                     const std::optional<DataFacts>& facts) {
  if (request.runtime != "ftplan" && request.runtime != "hf") {
    return bad_input("--runtime", "got \"" + request.runtime + "\", expected ftplan | hf");
  }
  if (auto ok = check_method(request.method, request.runtime); !ok) return ok.error();
  if (auto ok = check_base(request.method, model); !ok) return ok.error();
  if (auto ok = check_optimizer(request); !ok) return ok.error();
  if (auto ok = check_modules(request); !ok) return ok.error();
  if (auto ok = check_training(request.training); !ok) return ok.error();
  if (auto ok = check_evaluation(request, facts); !ok) return ok.error();
  Job job{.request = request, .model = model};
  Precision& precision = job.request.method.precision;
  if (precision == Precision::kAuto) precision = Precision::kBf16;
  if (auto ok = check_loss_scale(job.request); !ok) return ok.error();
  auto devices = parse_devices(request.devices.gpus);
  if (!devices) return devices.error();
  job.devices = *devices;
  if (auto ok = check_update_in_backward(job); !ok) return ok.error();
  auto adapters = resolve_adapters(request.method, model.family);
  if (!adapters) return adapters.error();
  job.adapters = *std::move(adapters);
  auto modules = resolve_modules(request.method, model, "--modules-to-save");
  if (!modules) return modules.error();
  job.whole_modules = *std::move(modules);
  if (auto ok = resolve_layers(job); !ok) return ok.error();
  if (auto ok = check_edges(job); !ok) return ok.error();
  if (auto ok = check_new_rows(job); !ok) return ok.error();
  auto sequence = resolve_sequence(request.data, model, facts);
  if (!sequence) return sequence.error();
  job.sequence = *sequence;
  if (auto ok = resolve_batch(request.training, job); !ok) return ok.error();
  if (auto ok = resolve_layout(request.layout, job); !ok) return ok.error();
  job.learning_rate = request.training.learning_rate.value_or(job.lora() ? 2e-4 : 2e-5);
  return job;
}

}  // namespace ftplan

#include "reports/words.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/data_options.h"
#include "core/enums.h"
#include "core/job.h"
#include "core/linear_value.h"
#include "core/machine.h"
#include "core/method.h"
#include "core/model_config.h"
#include "core/plan.h"
#include "core/run_result.h"
#include "core/strategy.h"
#include "core/text.h"
#include "core/timeline.h"
#include "core/training.h"
#include "core/units.h"
#include "reports/comparison.h"
#include "reports/markup.h"
#include "reports/report.h"

namespace ftplan::reports {
namespace {

std::string method_name(Method method) {
  return std::string(title_of(method)) + (method == Method::kFull ? " fine-tuning" : "");
}

const char* fits_words(Fits fits) {
  switch (fits) {
    case Fits::kYes:
      return "it fits";
    case Fits::kTight:
      return "it is tight: only the lower end of the interval fits";
    case Fits::kNo:
      return "it does not fit";
    case Fits::kUnknown:
      return "whether it fits is not known";
  }
  return "?";
}

std::string model_words(const ModelConfig& model) {
  std::string text = counted(model.layers, "layer") + ", hidden " + with_commas(model.hidden) +
                     ", MLP " + with_commas(model.intermediate) + ", " +
                     counted(model.heads, "head") + " of " + std::to_string(model.head_size);
  if (model.kv_heads != model.heads)
    text += " sharing " + counted(model.kv_heads, "key-value head");
  text += ", vocabulary " + with_commas(model.vocabulary);
  text += model.tied_embeddings ? ", head tied to the embedding" : "";
  const bool plain = model.stored_linears == StoredLinears::kPlain;
  return std::string(to_text(model.family)) + " family, stored as " + to_text(model.stored) +
         (plain ? "" : std::string(", linears as ") + to_text(model.stored_linears)) + ": " + text +
         ".";
}

// `, rank q_proj=8, k_proj=2`
std::string pattern_words(const char* what, const std::vector<LinearValue>& pattern) {
  std::vector<std::string> entries;
  for (const LinearValue& entry : pattern) entries.push_back(to_text(entry));
  return entries.empty() ? "" : std::string(", ") + what + " " + join(entries, ", ");
}

std::string method_words(const MethodOptions& method) {
  std::string text = method_name(method.method);
  if (method.method != Method::kFull) {
    text += " of rank " + std::to_string(method.rank) + ", alpha " + format_number(method.alpha) +
            (method.rslora ? " over the root of the rank" : "") + ", on " +
            join(method.targets, ", ") + pattern_words("rank", method.rank_pattern) +
            pattern_words("alpha", method.alpha_pattern);
    if (method.dropout > 0) text += ", dropout " + format_number(method.dropout);
    if (method.method == Method::kQlora) {
      text += method.double_quantization ? ", the base in NF4 with double quantization"
                                         : ", the base in NF4";
    }
    if (method.method == Method::kInt8Lora) text += ", the base in 8 bits";
  }
  return text + ", in " + to_text(method.precision) + " with " + to_text(method.optimizer) + ".";
}

std::string device_words(const Plan& plan) {
  const Machine& machine = plan.machine;
  std::string text = plan.job.devices.gpus;
  text += plan.layout.size() > 1
              ? ", " + counted(static_cast<std::int64_t>(plan.layout.size()), "rank")
              : "";
  if (machine.backend == Backend::kCpu) text += ", " + counted(machine.threads, "thread");
  if (!machine.instruction_set.empty()) text += ", " + machine.instruction_set;
  if (!machine.torch.empty()) text += ", LibTorch " + machine.torch;
  return text + ".";
}

std::string data_words(const Plan& plan) {
  const DataFacts& facts = *plan.data;
  std::string text = counted(facts.rows, "row") + " of " + counted(facts.tokens, "token") + ", " +
                     with_commas(facts.target_tokens) + " of them learned; the longest row has " +
                     with_commas(facts.longest);
  if (facts.validation_rows > 0) text += "; " + counted(facts.validation_rows, "row") + " held out";
  return text + ". Packing: " + to_text(plan.job.data.packing) + ".";
}

std::int64_t data_parallel_of(const Plan& plan) {
  std::int64_t most = 0;
  for (const RankPlace& place : plan.layout) most = std::max(most, place.data_parallel);
  return most + 1;
}

std::string training_words(const Plan& plan) {
  const TrainingOptions& training = plan.job.training;
  const std::int64_t sequences =
      plan.strategy.micro_batch * plan.strategy.accumulation * data_parallel_of(plan);
  std::string text = counted(plan.steps, "step") + " of " + counted(sequences, "sequence") + ", " +
                     to_text(training.schedule) + " schedule";
  if (training.learning_rate) text += " from " + format_number(*training.learning_rate);
  if (training.weight_decay > 0) text += ", weight decay " + format_number(training.weight_decay);
  if (training.clip > 0) text += ", gradients clipped at " + format_number(training.clip);
  if (training.update_in_backward) text += ", updated in the backward";
  return text + ", seed " + std::to_string(training.seed) + ".";
}

std::string times(const Cadence& every) {
  if (every.epoch) return "after each epoch";
  return every.steps == 1 ? "every step" : "every " + counted(every.steps, "step");
}

// When it is evaluated, what is saved, and what is made of both; empty when nothing is.
std::string validation_words(const TrainingOptions& training, bool evaluates) {
  std::string text;
  if (evaluates) {
    text = "Evaluated " + times(training.eval_every);
    if (training.eval_delay > 0)
      text += std::string(", first after ") + (training.eval_every.epoch ? "epoch " : "step ") +
              format_number(training.eval_delay);
    text += ", and at the end";
    if (training.load_best_model_at_end) text += "; the best state is the result";
    if (training.early_stopping_patience) {
      text += "; stops after " + counted(*training.early_stopping_patience, "evaluation") +
              " without improvement";
      if (training.early_stopping_threshold > 0)
        text += " of more than " + format_number(training.early_stopping_threshold);
    }
    text += ".";
  }
  if (training.save_every != Cadence{}) {
    text += (text.empty() ? "Saved " : " Saved ") + times(training.save_every) + "; the newest " +
            (training.save_total_limit == 1
                 ? "checkpoint is kept."
                 : counted(training.save_total_limit, "checkpoint") + " are kept.");
  }
  return text;
}

using Value = std::optional<double> StepMetrics::*;

// `fell from 2.31 to 0.87`, or empty when fewer than one finite value is there.
std::string from_to(const std::vector<StepMetrics>& metrics, Value value) {
  std::vector<double> values;
  for (const StepMetrics& line : metrics) {
    if ((line.*value) && std::isfinite(*(line.*value))) values.push_back(*(line.*value));
  }
  if (values.empty()) return "";
  const std::string last = format_fixed(values.back(), 4);
  if (values.size() == 1) return "is " + last;
  const double change = values.back() - values.front();
  const char* verb = change < 0 ? "fell from " : change > 0 ? "rose from " : "stayed from ";
  return verb + format_fixed(values.front(), 4) + " to " + last;
}

std::int64_t last_evaluation(const std::vector<StepMetrics>& metrics) {
  std::int64_t step = 0;
  for (const StepMetrics& line : metrics) step = line.validation_loss ? line.step : step;
  return step;
}

}  // namespace

std::string counted(std::int64_t count, const char* unit) {
  return with_commas(count) + " " + unit + (count == 1 ? "" : "s");
}

std::string title(const Plan& plan) {
  const std::string name = plan.model.name.empty() ? plan.job.model : plan.model.name;
  return name + ", " + method_name(plan.job.method.method);
}

std::optional<Need> need_of(const Plan& plan) {
  const bool shared = plan.machine.backend == Backend::kCpu;
  std::optional<Need> need;
  for (const RankPrediction& rank : plan.predicted) {
    const Bytes used = rank.device.peak + (shared ? rank.host.peak : Bytes{});
    if (!need || used > need->used) need = Need{.rank = rank.rank, .used = used, .limit = {}};
  }
  if (need) {
    need->limit = plan.machine.device_memory;
    if (shared && plan.machine.host_memory) need->limit = plan.machine.host_memory;
  }
  return need;
}

std::string summary(const Plan& plan) {
  const auto need = need_of(plan);
  std::string text = std::string(method_name(plan.job.method.method)) + " in " +
                     to_text(plan.job.method.precision) + " on " + plan.job.devices.gpus;
  text.front() = static_cast<char>(text.front() == 'f' ? 'F' : text.front());
  if (!need) return text + ": nothing is predicted.";
  text += " needs " + format_bytes(need->used);
  if (need->limit) text += " of " + format_bytes(*need->limit);
  return text + ": " + fits_words(plan.fits) + ".";
}

std::vector<Fact> describe(const Plan& plan) {
  std::vector<Fact> facts = {{.label = "Model", .text = model_words(plan.model)},
                             {.label = "Method", .text = method_words(plan.job.method)},
                             {.label = "Devices", .text = device_words(plan)},
                             {.label = "Strategy", .text = describe(plan.strategy) + "."}};
  if (plan.data) facts.push_back({.label = "Data", .text = data_words(plan)});
  facts.push_back({.label = "Training", .text = training_words(plan)});
  const TrainingOptions& training = plan.job.training;
  const bool evaluates = plan.job.data.validation > 0 && training.eval_every != Cadence{};
  if (std::string text = validation_words(training, evaluates); !text.empty())
    facts.push_back({.label = "Validation", .text = std::move(text)});
  return facts;
}

std::string describe_layout(const Strategy& strategy) {
  if (strategy.stage_layers.empty()) return "ZeRO-" + std::to_string(strategy.zero);
  std::string layers;
  for (const std::int64_t count : strategy.stage_layers)
    layers += (layers.empty() ? "" : "+") + std::to_string(count);
  return "naive pipeline of " + layers + " layers";
}

std::string describe(const Strategy& strategy) {
  return "micro-batch " + std::to_string(strategy.micro_batch) + " \u00d7 accumulation " +
         std::to_string(strategy.accumulation) + ", checkpointing " +
         to_text(strategy.checkpointing) + ", " + describe_layout(strategy) +
         ", loss in chunks of " + counted(strategy.loss_chunk, "token");
}

std::string describe_basis(const RankPrediction& prediction) {
  std::string text;
  switch (prediction.basis) {
    case Basis::kExecuted:
      text =
          "Executed: every operation was run and measured on this backend, or its formula is exact";
      break;
    case Basis::kCalibrated:
      text = "Calibrated: measured on another machine of this kind";
      break;
    case Basis::kFormula:
      text = "Formula: computed, not measured on this device";
      break;
  }
  if (prediction.uncertainty == Bytes{}) return text + ". The device's peak is exact.";
  const Bytes peak = prediction.device.peak;
  return text + ". The device's peak lies between " + format_bytes(peak - prediction.uncertainty) +
         " and " + format_bytes(peak + prediction.uncertainty) + ".";
}

std::string describe_verdict(const ReportInput& input) {
  if (!input.result) return "";
  const Verdict verdict = judge(input);
  if (verdict.compared == 0) return "Nothing was measured.";
  std::string text =
      verdict.different == 0
          ? "Predicted equals measured, to the byte, on all " + counted(verdict.compared, "line") +
                "."
          : counted(verdict.different, "line") + " of " + with_commas(verdict.compared) +
                (verdict.different == 1 ? " differs" : " differ") + " from the prediction.";
  if (verdict.other_plan) text += " The run was made with another plan than this one.";
  return text;
}

std::string describe_loss(const std::vector<StepMetrics>& metrics) {
  const std::string training = from_to(metrics, &StepMetrics::loss);
  const std::string validation = from_to(metrics, &StepMetrics::validation_loss);
  std::string text;
  if (!training.empty()) text = "Training loss " + training + ".";
  if (!validation.empty())
    text += std::string(text.empty() ? "" : " ") + "Validation loss " + validation + ".";
  if (const auto best = best_of(metrics); best && best->step != last_evaluation(metrics)) {
    text += " It was lowest after step " + with_commas(best->step) + ": " +
            format_fixed(best->loss, 4) + ".";
  }
  std::int64_t skipped = 0;
  for (const StepMetrics& line : metrics) skipped = line.skipped_steps.value_or(skipped);
  if (skipped > 0)
    text += " " + counted(skipped, "step") + " without an update: fp16 gradients overflowed.";
  return text;
}

std::optional<BestEvaluation> best_of(const std::vector<StepMetrics>& metrics) {
  for (auto line = metrics.rbegin(); line != metrics.rend(); ++line) {
    if (line->best_step && line->best_validation_loss)
      return BestEvaluation{.step = *line->best_step, .loss = *line->best_validation_loss};
  }
  return std::nullopt;
}

std::string describe_result(const ReportInput& input) {
  if (!input.result || !input.result->result_step) return "";
  const RunResult& run = *input.result;
  std::string text;
  if (run.stopped_early) {
    text = "It stopped early, after step " + with_commas(run.steps) + " of " +
           with_commas(input.plan.steps) + ": validation no longer got better. ";
  }
  text += "The result is the state after step " + with_commas(*run.result_step);
  return text + (*run.result_step == run.best_step ? ", the best." : ", the last.");
}

std::string describe(const Instant& instant) {
  std::string text = instant.phase;
  if (instant.layer >= 0) text += ", layer " + std::to_string(instant.layer);
  if (instant.micro_step > 0) text += ", micro-step " + std::to_string(instant.micro_step);
  return text + ": " + instant.operation;
}

}  // namespace ftplan::reports

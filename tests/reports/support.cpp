#include "support.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace ftplan::reports {

Plan toy_plan() {
  Plan plan;
  plan.job.model = "toy";
  plan.job.method.dropout = 0.05;
  plan.model.name = "toy-llama";
  plan.model.kv_heads = 8;
  plan.machine.host_memory = 1 * kGiB;
  plan.machine.threads = 2;
  plan.machine.instruction_set = "avx512";
  plan.strategy = {.micro_batch = 2, .accumulation = 4, .checkpointing = {.every = 1}};
  plan.layout = {RankPlace{}};
  plan.data = DataFacts{.rows = 480,
                        .validation_rows = 20,
                        .longest = 311,
                        .tokens = 61'440,
                        .target_tokens = 40'000};
  plan.steps = 60;
  plan.fits = Fits::kYes;
  plan.job.method.precision = Precision::kBf16;
  plan.why = {"bf16 was asked for.",
              "Nothing needs to be recomputed more than once: full checkpointing fits."};
  plan.runners_up = {{.strategy = {.micro_batch = 4, .accumulation = 2},
                      .peak = 1400 * kMiB,
                      .lost_by = "short by 376 MiB: activations of all layers are kept"}};
  RankPrediction rank;
  rank.peak_instruction = "gated_silu of layer 1 in the backward";
  rank.basis = Basis::kExecuted;
  rank.arena = 100 * kMiB;
  rank.device = {.weights = 60 * kMiB,
                 .adapters = 4 * kMiB,
                 .optimizer = 8 * kMiB,
                 .activations = 20 * kMiB,
                 .scratch = 5 * kMiB,
                 .unused = 3 * kMiB,
                 .peak = 100 * kMiB};
  rank.host = {.inputs = 2 * kMiB, .peak = 2 * kMiB};
  plan.predicted = {rank};
  plan.digests.model = "00112233445566778899aabbccddeeff";
  return plan;
}

Timeline toy_timeline(std::int64_t instants) {
  Timeline timeline;
  timeline.peak = instants * 2 / 5;
  for (std::int64_t i = 0; i < instants; ++i) {
    Instant instant;
    const std::int64_t backward = instants * 2 / 5, optimizer = instants * 9 / 10;
    instant.phase = i < backward ? "forward" : i < optimizer ? "backward" : "optimizer";
    instant.operation = i % 3 == 0 ? "linear" : i % 3 == 1 ? "attention" : "rms_norm";
    instant.layer = i < optimizer ? i % 4 : -1;
    instant.device = {.weights = 60 * kMiB, .adapters = 4 * kMiB, .optimizer = 8 * kMiB};
    const std::int64_t left = i < backward ? i : i < optimizer ? optimizer - i : 0;
    const std::int64_t most = i < backward ? backward : optimizer - backward;
    instant.device.checkpoints = {kMiB.value * 9 * left / most};
    instant.device.activations = {i < optimizer ? kMiB.value * (4 + i % 3 * 2) : 0};
    instant.device.scratch = {i % 3 == 1 ? 5 * kMiB.value : 0};
    instant.device.gradients = {
        i >= backward ? kMiB.value * 4 * (i - backward) / (instants - backward) : 0};
    if (i == backward) instant.device.logits = 6 * kMiB;
    timeline.instants.push_back(instant);
  }
  return timeline;
}

RunResult equal_result() {
  const Plan plan = toy_plan();
  RankMeasurement rank;
  rank.predicted = {.device = plan.predicted[0].device, .host = plan.predicted[0].host, .disk = {}};
  rank.measured = rank.predicted;
  rank.process_bytes = 24 * kMiB;
  RunResult result;
  result.ranks = {rank};
  result.tokens_per_second = 2570;
  result.step_seconds = 0.4;
  return result;
}

std::vector<StepMetrics> falling_loss() {
  std::vector<StepMetrics> metrics;
  for (std::int64_t step = 1; step <= 60; ++step) {
    const auto t = static_cast<double>(step - 1);
    StepMetrics line;
    line.step = step;
    line.loss = 1 + 3 * std::exp(-t / 15) + (step == 1 ? 0 : 0.08 * std::sin(t * 1.9));
    metrics.push_back(line);
    if (step % 20 != 0) continue;
    StepMetrics validation;
    validation.step = step;
    validation.validation_loss = 1.15 + 3 * std::exp(-t / 15) + (step == 60 ? 0.2 : 0);
    validation.best_step = std::min<std::int64_t>(step, 40);
    validation.best_validation_loss = 1.15 + 3 * std::exp(-(step == 20 ? 19.0 : 39.0) / 15);
    metrics.push_back(validation);
  }
  return metrics;
}

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

LayoutGraph toy_layout() {
  LayoutGraph graph{.device = "cpu", .arena = 98 * kMiB, .scratch = 1 * kMiB};
  graph.parts = {
      {.name = "inputs",
       .holds = {{.category = Category::kInputs, .place = Place::kHost, .bytes = 16 * kKiB}}},
      {.name = "embedding", .holds = {{.category = Category::kWeights, .bytes = 20 * kMiB}}},
      {.name = "layers",
       .repeats = 4,
       .holds = {{.category = Category::kActivations, .held = Held::kAtATime, .bytes = 2 * kMiB},
                 {.category = Category::kWeights, .bytes = 40 * kMiB, .copies = 4},
                 {.category = Category::kActivations,
                  .held = Held::kInAStep,
                  .bytes = 8 * kMiB,
                  .copies = 4}}},
      {.name = "head and loss",
       .holds = {{.category = Category::kLogits, .held = Held::kAtATime, .bytes = 4 * kMiB}}},
      {.name = "optimizer",
       .holds = {{.category = Category::kOptimizer, .bytes = 12 * kMiB, .copies = 4}}}};
  graph.flows = {
      {.from = 0, .to = 1, .flow = Flow::kForward, .bytes = 4 * kKiB},
      {.from = 1, .to = 2, .flow = Flow::kForward, .bytes = 1 * kMiB},
      {.from = 2, .to = 3, .flow = Flow::kForward, .bytes = 1 * kMiB},
      {.from = 3, .to = 2, .flow = Flow::kBackward, .bytes = 1 * kMiB},
      {.from = 1, .to = 3, .flow = Flow::kShared, .bytes = 20 * kMiB},
      {.from = 2, .to = 4, .flow = Flow::kUpdate, .bytes = 6 * kMiB},
  };
  return graph;
}

ReportInput toy_report() {
  return {.plan = toy_plan(),
          .timelines = {toy_timeline(40)},
          .result = equal_result(),
          .metrics = falling_loss(),
          .what_ifs = {{.flags = "--checkpointing none",
                        .note = "no recomputation",
                        .peak = Bytes{5000},
                        .difference = Bytes{1000},
                        .fits = Fits::kYes},
                       {.flags = "--method full",
                        .note = "trains every weight",
                        .peak = Bytes{90000},
                        .difference = Bytes{86000},
                        .fits = Fits::kNo}},
          .layout = toy_layout()};
}

}  // namespace ftplan::reports

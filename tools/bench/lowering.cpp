#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

#include "core/check.h"
#include "core/enums.h"
#include "core/job.h"
#include "core/method.h"
#include "core/model_config.h"
#include "core/strategy.h"
#include "models/presets.h"
#include "program/lower.h"

// Evaluations per second: one job and strategy lowered through lay_out, nothing cached. The ratios
// at the end say how the cost depends on the number of layers and micro-steps: between many and
// some not at all, between some and few by what only some have (first, middle and last ones).

namespace ftplan {
namespace {

struct Evaluation {
  std::string name;
  Job job;
  Strategy strategy;
};

Evaluation evaluation(const std::string& preset, std::int64_t layers, Method method,
                      const Strategy& strategy) {
  const models::Preset* found = models::find_preset(preset);
  FTPLAN_CHECK(found != nullptr);
  ModelConfig model = found->config;
  if (layers > 0) model.layers = layers;
  JobRequest request;
  request.method.method = method;
  request.data.seq = 2048;
  request.devices.gpus = strategy.zero > 0 ? "8xcpu" : "cpu";
  request.training.micro_batch = strategy.micro_batch;
  request.training.accumulation = strategy.accumulation;
  auto job = validate(request, model, std::nullopt);
  FTPLAN_CHECK(job.ok());
  const std::string name = preset + " " + std::to_string(model.layers) + " layers " +
                           to_text(method) + " " + to_text(strategy.checkpointing) + " x" +
                           std::to_string(strategy.accumulation) + " ZeRO-" +
                           std::to_string(strategy.zero);
  return {name, *job, strategy};
}

// Seconds of one evaluation: the fastest of several rounds, the machine being shared.
double seconds_of(const Evaluation& e) {
  using Clock = std::chrono::steady_clock;
  constexpr int kRounds = 15;
  constexpr int kRepeats = 8;
  double best = 1e9;
  for (int round = 0; round < kRounds; ++round) {
    const auto begin = Clock::now();
    for (int i = 0; i < kRepeats; ++i) {
      FTPLAN_CHECK(program::lower(e.job, e.strategy, {}, {}).ok());
    }
    const std::chrono::duration<double> spent = Clock::now() - begin;
    best = std::min(best, spent.count() / kRepeats);
  }
  return best;
}

double print(const Evaluation& e) {
  const double seconds = seconds_of(e);
  std::printf("%-48s %8.0f evaluations/s %9.0f us\n", e.name.c_str(), 1 / seconds, seconds * 1e6);
  return seconds;
}

int run() {
  for (const Method method : {Method::kFull, Method::kLora}) {
    for (const std::int64_t every : {0, 1, 2, 4}) {
      print(evaluation("llama2-70b", 0, method,
                       {.accumulation = 4, .checkpointing = {.every = every}}));
    }
    for (const std::int64_t zero : {1, 3})
      print(evaluation("llama2-70b", 0, method, {.checkpointing = {.every = 1}, .zero = zero}));
    const auto layers = [&](std::int64_t count) {
      return print(evaluation("llama2-70b", count, method, {.checkpointing = {.every = 1}}));
    };
    const double few_layers = layers(3);
    const double some_layers = layers(8);
    const double many_layers = layers(80);
    const auto micro_steps = [&](std::int64_t count) {
      return print(evaluation("llama2-70b", 0, method, {.accumulation = count}));
    };
    const double one_step = micro_steps(1);
    const double some_steps = micro_steps(3);
    const double many_steps = micro_steps(16);
    std::printf("80 layers cost %.2f times 8, %.2f times 3\n", many_layers / some_layers,
                many_layers / few_layers);
    std::printf("16 micro-steps cost %.2f times 3, %.2f times 1\n\n", many_steps / some_steps,
                many_steps / one_step);
  }
  return 0;
}

}  // namespace
}  // namespace ftplan

int main() { return ftplan::run(); }  // NOLINT(bugprone-exception-escape)

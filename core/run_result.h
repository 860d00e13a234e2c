#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/category.h"
#include "core/fields.h"

namespace ftplan {

/// Bytes of one rank by place.
struct RankBytes {
  PlaceBytes device, host, disk;
  friend bool operator==(const RankBytes&, const RankBytes&) = default;
};
template <>
inline constexpr auto fields<RankBytes> =
    std::tuple{Field{"device", &RankBytes::device, "Device."},
               Field{"host", &RankBytes::host, "Host."}, Field{"disk", &RankBytes::disk, "Files."}};

/// Predicted beside measured for one rank. `measured` comes from the addresses that kernels were
/// handed and from the allocator's counters, never from the plan.
struct RankMeasurement {
  std::int64_t rank = 0;
  RankBytes predicted;
  RankBytes measured;
  Bytes outside_arena_bytes;  ///< allocated by LibTorch outside arena and scratch after the first
                              ///< step
  Bytes process_bytes;        ///< resident bytes of the process beyond the arena
  friend bool operator==(const RankMeasurement&, const RankMeasurement&) = default;
};
template <>
inline constexpr auto fields<RankMeasurement> = std::tuple{
    Field{"rank", &RankMeasurement::rank, "", Range{0, 1e9}, "Rank."},
    Field{"predicted", &RankMeasurement::predicted, "By the plan."},
    Field{"measured", &RankMeasurement::measured, "During the run."},
    Field{"outside_arena_bytes", &RankMeasurement::outside_arena_bytes,
          "LibTorch's bytes outside the arena."},
    Field{"process_bytes", &RankMeasurement::process_bytes, "Resident bytes beyond the arena."}};

/// `measured.json`
struct RunResult {
  std::int64_t format_version = 1;
  std::vector<RankMeasurement> ranks;
  double tokens_per_second = 0;
  double step_seconds = 0;
  std::int64_t steps = 0;
  bool stopped_early = false;
  std::optional<std::int64_t> best_step;
  std::optional<double> best_validation_loss;
  std::optional<std::int64_t> result_step;
  friend bool operator==(const RunResult&, const RunResult&) = default;
};
template <>
inline constexpr auto fields<RunResult> = std::tuple{
    Field{"format_version", &RunResult::format_version, "", Range{1, 1.5},
          "Version of this file's form."},
    Field{"ranks", &RunResult::ranks, "Predicted beside measured."},
    Field{"tokens_per_second", &RunResult::tokens_per_second, "", Range{0, 1e15},
          "Mean over the run."},
    Field{"step_seconds", &RunResult::step_seconds, "", Range{0, 1e15}, "Mean over the run."},
    Field{"steps", &RunResult::steps, "", Range{0, 1e12}, "Optimizer steps that are done."},
    Field{"stopped_early", &RunResult::stopped_early,
          "It ended before the last step, as the validation loss no longer fell; what is predicted "
          "of the disk is that of the steps that are done."},
    Field{"best_step", &RunResult::best_step, "", Range{0, 1e12},
          "After which step the validation loss was lowest."},
    Field{"best_validation_loss", &RunResult::best_validation_loss, "That loss."},
    Field{"result_step", &RunResult::result_step, "", Range{0, 1e12},
          "After which step the result was the model's state; none before there is a result."}};

/// One line of `metrics.jsonl`: a step, or a validation.
struct StepMetrics {
  std::int64_t step = 0;
  std::optional<double> loss, learning_rate, gradient_norm;
  std::optional<std::int64_t> target_tokens;
  std::optional<double> tokens_per_second, seconds;
  std::optional<Bytes> device_peak_bytes;
  std::optional<double> loss_scale;
  std::optional<std::int64_t> skipped_steps;
  std::optional<double> validation_loss, perplexity;
  std::optional<double> best_validation_loss;
  std::optional<std::int64_t> best_step;
  friend bool operator==(const StepMetrics&, const StepMetrics&) = default;
};
template <>
inline constexpr auto fields<StepMetrics> = std::tuple{
    Field{"step", &StepMetrics::step, "", Range{0, 1e12}, "Optimizer step, from 1."},
    Field{"loss", &StepMetrics::loss, "Mean over the step's target tokens, before the update."},
    Field{"learning_rate", &StepMetrics::learning_rate, "Of this step."},
    Field{"gradient_norm", &StepMetrics::gradient_norm, "Before clipping."},
    Field{"target_tokens", &StepMetrics::target_tokens, "Tokens with a label in the step."},
    Field{"tokens_per_second", &StepMetrics::tokens_per_second,
          "Tokens of the rows, padding left out."},
    Field{"seconds", &StepMetrics::seconds, "Of this step."},
    Field{"device_peak_bytes", &StepMetrics::device_peak_bytes, "Highest so far."},
    Field{"loss_scale", &StepMetrics::loss_scale, "Of this step, in fp16."},
    Field{"skipped_steps", &StepMetrics::skipped_steps,
          "Steps so far without an update, because fp16 gradients were not finite."},
    Field{"validation_loss", &StepMetrics::validation_loss,
          "Mean over the held-out target tokens."},
    Field{"perplexity", &StepMetrics::perplexity, "exp(validation_loss)."},
    Field{"best_validation_loss", &StepMetrics::best_validation_loss, "Lowest so far."},
    Field{"best_step", &StepMetrics::best_step, "", Range{0, 1e12}, "After which step."}};

}  // namespace ftplan

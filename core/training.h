#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/enums.h"
#include "core/fields.h"

namespace ftplan {

enum class Schedule : std::uint8_t { kCosine, kLinear, kConstant };
template <>
inline constexpr auto names<Schedule> =
    std::array{Name{Schedule::kCosine, "cosine"}, Name{Schedule::kLinear, "linear"},
               Name{Schedule::kConstant, "constant"}};

/// Which trained weights decay: matrices only, as HF Trainer does, or all.
enum class Decay : std::uint8_t { kMatrices, kAll };
template <>
inline constexpr auto names<Decay> =
    std::array{Name{Decay::kMatrices, "matrices"}, Name{Decay::kAll, "all"}};

/// `none`, `epoch`, or a number of optimizer steps.
struct Cadence {
  bool epoch = false;
  std::int64_t steps = 0;  ///< 0 and not `epoch`: never
  friend constexpr bool operator==(Cadence, Cadence) = default;
};
std::string to_text(const Cadence& value);
std::optional<Cadence> parse_text(std::string_view text, Cadence*);
std::string expected_text(const Cadence*);

/// Steps from one time to the next; 0: never. @param steps_per_epoch 0 where epochs are not known
std::int64_t period_of(const Cadence& every, std::int64_t steps_per_epoch);
/// Whether it is time after `step` optimizer steps.
bool is_due(const Cadence& every, std::int64_t step, std::int64_t steps_per_epoch);

/// How long and how fast the model learns.
struct TrainingOptions {
  double epochs = 1;
  std::optional<std::int64_t> steps;
  std::optional<double> learning_rate;
  Schedule schedule = Schedule::kCosine;
  double warmup_ratio = 0;
  std::optional<std::int64_t> warmup_steps;
  double weight_decay = 0;
  Decay decay = Decay::kMatrices;
  std::vector<double> betas = {0.9, 0.999};
  double eps = 1e-8;
  double momentum = 0;
  double clip = 1;
  bool update_in_backward = false;
  std::optional<double> loss_scale;
  std::optional<std::int64_t> global_batch;
  std::optional<std::int64_t> micro_batch;
  std::optional<std::int64_t> accumulation;
  std::int64_t seed = 0;
  Cadence eval_every{.epoch = true};
  double eval_delay = 0;
  std::optional<std::int64_t> eval_batch;
  Cadence save_every{};
  std::int64_t save_total_limit = 1;
  bool load_best_model_at_end = false;
  std::optional<std::int64_t> early_stopping_patience;
  double early_stopping_threshold = 0;

  friend bool operator==(const TrainingOptions&, const TrainingOptions&) = default;
};

template <>
inline constexpr auto fields<TrainingOptions> = std::tuple{
    Field{"epochs", &TrainingOptions::epochs, "epochs", Range{0, 1e6},
          "Passes over the training rows."},
    Field{"steps", &TrainingOptions::steps, "steps", Range{1, 1e9},
          "Optimizer steps, instead of epochs."},
    Field{"learning_rate", &TrainingOptions::learning_rate, "", Range{0, 100},
          "Highest learning rate. Default: 2e-4 for adapters, 2e-5 for full."},
    Field{"schedule", &TrainingOptions::schedule, "How the learning rate falls after the warm-up."},
    Field{"warmup_ratio", &TrainingOptions::warmup_ratio, "", Range{0, 1},
          "Share of the steps in which the learning rate rises."},
    Field{"warmup_steps", &TrainingOptions::warmup_steps, "steps", Range{0, 1e9},
          "Steps in which the learning rate rises, instead of a share."},
    Field{"weight_decay", &TrainingOptions::weight_decay, "", Range{0, 10},
          "Weight decay: beside the gradient in AdamW, added to it in sgd."},
    Field{"decay", &TrainingOptions::decay, "Which trained weights decay."},
    Field{"betas", &TrainingOptions::betas, "", Range{0, 0.9999999}, "AdamW's two decay rates."},
    Field{"eps", &TrainingOptions::eps, "", Range{0, 1}, "AdamW's epsilon."},
    Field{"momentum", &TrainingOptions::momentum, "", Range{0, 0.9999999},
          "Momentum of sgd; 0 holds no state."},
    Field{"clip", &TrainingOptions::clip, "", Range{0, 1e9},
          "Largest gradient norm; 0 never clips."},
    Field{"update_in_backward", &TrainingOptions::update_in_backward,
          "Update each layer as soon as its gradient is complete, so that one layer's gradient is "
          "held at a time; needs --clip 0 and one pass a step."},
    Field{"loss_scale", &TrainingOptions::loss_scale, "", Range{1, 1e30},
          "First scale of fp16's loss. Default: 65536."},
    Field{"global_batch", &TrainingOptions::global_batch, "sequences", Range{1, 1 << 24},
          "Sequences in one optimizer step over all ranks. Default: 16, or micro-batch x "
          "accumulation x ranks."},
    Field{"micro_batch", &TrainingOptions::micro_batch, "sequences", Range{1, 1 << 16},
          "Sequences in one forward pass on one rank."},
    Field{"accumulation", &TrainingOptions::accumulation, "micro-steps", Range{1, 1 << 16},
          "Micro-steps whose gradients add up to one optimizer step."},
    Field{"seed", &TrainingOptions::seed, "", Range{0, 9007199254740991.0},
          "Fixes everything random."},
    Field{"eval_every", &TrainingOptions::eval_every, "When the held-out rows are evaluated."},
    Field{"eval_delay", &TrainingOptions::eval_delay, "", Range{0, 1e9},
          "Epochs before the first evaluation; steps where --eval-every counts steps."},
    Field{"eval_batch", &TrainingOptions::eval_batch, "sequences", Range{1, 1 << 16},
          "Sequences in one evaluation pass. Default: the micro-batch."},
    Field{"save_every", &TrainingOptions::save_every,
          "When a checkpoint to resume from is written."},
    Field{"save_total_limit", &TrainingOptions::save_total_limit, "checkpoints", Range{1, 1e6},
          "Checkpoints that are kept, the newest."},
    Field{"load_best_model_at_end", &TrainingOptions::load_best_model_at_end,
          "The result is the state with the lowest validation loss, not the last one."},
    Field{"early_stopping_patience", &TrainingOptions::early_stopping_patience, "evaluations",
          Range{1, 1e9}, "Evaluations in a row without improvement that end the run."},
    Field{"early_stopping_threshold", &TrainingOptions::early_stopping_threshold, "", Range{0, 1e9},
          "By how much the validation loss must fall to be an improvement."}};

}  // namespace ftplan

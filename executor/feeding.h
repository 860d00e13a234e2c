#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/job.h"
#include "core/strategy.h"
#include "core/training.h"
#include "data/batch.h"
#include "data/data_set.h"
#include "data/sampler.h"
#include "executor/call.h"
#include "executor/rank_run.h"

namespace ftplan::executor {

/// The arrays that kBatch hands out, by name; empty where a program has none.
data::BatchSpans batch_spans(const std::array<View, 8>& to);

/// The rows of one step, or of one evaluation pass.
struct StepRows {
  std::vector<std::int64_t> rows;  ///< by slot of the global batch
  std::int64_t length = 0;         ///< to which all are padded
  std::int64_t target_tokens = 0;
  std::int64_t tokens = 0;  ///< padding left out
};

/// From data to the arrays of micro-steps. Slot s of the global batch goes to micro-step s /
/// (micro-batch x ranks), rank s / micro-batch modulo ranks; what a last partial batch lacks is
/// padding.
class Feeder {
 public:
  /// @param data outlives the feeder
  Feeder(const Job& job, const Strategy& strategy, std::int64_t rank, const data::DataSet& data);

  [[nodiscard]] std::int64_t steps_per_epoch() const { return sampler_.steps_per_epoch(); }
  [[nodiscard]] StepRows rows_of_step(std::int64_t step) const;
  [[nodiscard]] FillBatch fill(const StepRows& rows) const;

  /// All held-out rows in passes of `eval_batch` for each rank.
  [[nodiscard]] std::vector<StepRows> validation() const;
  [[nodiscard]] FillBatch fill_validation(const StepRows& rows) const;

 private:
  [[nodiscard]] StepRows describe(const data::RowSet& set, std::vector<std::int64_t> rows) const;

  const data::DataSet& data_;
  data::Sampler sampler_;
  std::int64_t micro_batch_, eval_batch_, ranks_, rank_, pad_multiple_;
};

/// Optimizer steps of the whole run.
std::int64_t total_steps(const TrainingOptions& training, std::int64_t steps_per_epoch);

/// Learning rate of step `step` (from 0) of `total`.
/// @source transformers 5.23 optimization.py: linear warm-up from 0, then cosine to 0, linear to 0,
/// or constant
double learning_rate_at(const TrainingOptions& training, double highest, std::int64_t step,
                        std::int64_t total);

}  // namespace ftplan::executor

#pragma once

#include <cstdint>

#include "core/training.h"
#include "program/run_files.h"

namespace ftplan::executor {

/// When the held-out rows are evaluated, which state was best, and whether the run goes on.
/// @source transformers 5.23 `DefaultFlowCallback`, `Trainer._determine_best_metric` and
/// `EarlyStoppingCallback`; unlike there, the last step is always evaluated, and a loss that is not
/// finite is never the best
class Evaluations {
 public:
  /// @param steps of the whole run
  Evaluations(const TrainingOptions& training, std::int64_t steps_per_epoch, std::int64_t steps);

  /// Whether there is an evaluation after `step` optimizer steps.
  [[nodiscard]] bool due(std::int64_t step) const;

  /// Takes the validation loss after `step` steps. True when no finite one was as low.
  bool add(std::int64_t step, double loss);

  /// Whether the last evaluations were too little of an improvement to go on.
  [[nodiscard]] bool stop() const;

  [[nodiscard]] const program::BestState& best() const { return best_; }
  void restore(const program::BestState& best) { best_ = best; }

 private:
  const TrainingOptions& training_;
  std::int64_t steps_per_epoch_;
  std::int64_t steps_;
  program::BestState best_;
};

}  // namespace ftplan::executor

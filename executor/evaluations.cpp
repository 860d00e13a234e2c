#include "executor/evaluations.h"

#include <cmath>
#include <cstdint>

#include "core/training.h"

namespace ftplan::executor {

Evaluations::Evaluations(const TrainingOptions& training, std::int64_t steps_per_epoch,
                         std::int64_t steps)
    : training_(training), steps_per_epoch_(steps_per_epoch), steps_(steps) {}

bool Evaluations::due(std::int64_t step) const {
  const Cadence& every = training_.eval_every;
  if (step == steps_) return every != Cadence{};
  const auto unit = static_cast<double>(every.epoch ? steps_per_epoch_ : 1);
  return is_due(every, step, steps_per_epoch_) &&
         static_cast<double>(step) >= training_.eval_delay * unit;
}

bool Evaluations::add(std::int64_t step, double loss) {
  const bool first = best_.step == 0;
  const bool lowest = std::isfinite(loss) && (first || loss < best_.loss);
  const bool enough = lowest && (first || best_.loss - loss > training_.early_stopping_threshold);
  best_.worse = enough ? 0 : best_.worse + 1;
  if (lowest) {
    best_.step = step;
    best_.loss = loss;
  }
  return lowest;
}

bool Evaluations::stop() const {
  const auto& patience = training_.early_stopping_patience;
  return patience && best_.worse >= *patience;
}

}  // namespace ftplan::executor

#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/data_options.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/strategy.h"
#include "estimator/predict.h"

/// The order in which strategies are preferred while no time is simulated.
namespace ftplan::planner {

/// What a plan is made for.
struct Setting {
  const Job& job;
  const Machine& machine;
  const std::optional<DataFacts>& facts;
};

/// A strategy with what it needs: the prediction is that of the rank with the least room.
struct Evaluation {
  Strategy strategy;
  RankPrediction prediction;
  estimator::Judgement judgement;
  [[nodiscard]] bool fits() const {
    return judgement.fits == Fits::kYes || judgement.fits == Fits::kUnknown;
  }
};

/// Ranks of which every other has one with the same need: rank 0, and of a pipeline the last stage
/// and one of each length between.
std::vector<std::int64_t> representative_ranks(const Strategy& strategy);

/// Of all ranks: `prediction.rank` is the worst.
Result<Evaluation> evaluate(const Setting& setting, const Strategy& strategy);

/// Of these ranks alone, which the caller knows to stand for all.
Result<Evaluation> evaluate_ranks(const Setting& setting, const Strategy& strategy,
                                  const std::vector<std::int64_t>& ranks);

/// The strategy of a micro-batch of `job.micro_batch_choices`; the accumulation follows from the
/// global batch.
Strategy strategy_of(const Job& job, Checkpointing checkpointing, std::int64_t zero,
                     std::int64_t micro_batch);

struct SearchResult {
  std::optional<Evaluation> chosen;
  std::optional<Evaluation> smallest;  ///< of all tried, that with the least need; never empty
  std::vector<Evaluation> rejected;  ///< what was tried and preferred to `chosen`, but does not fit
};

/// Least recomputation first, then least sharding, then the largest micro-batch that fits. Where
/// the memory is not known everything fits.
/// @complexity per checkpointing and ZeRO choice, the logarithm of the number of micro-batches:
/// their need is monotone
Result<SearchResult> search(const Setting& setting);

/// Optimizer steps of the run: `--steps`, or what the epochs of the data come to; 0 when the data
/// is not known.
std::int64_t count_steps(const Job& job, const std::optional<DataFacts>& facts);

}  // namespace ftplan::planner

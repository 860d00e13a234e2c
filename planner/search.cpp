#include "planner/search.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/data_options.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/strategy.h"
#include "core/units.h"
#include "estimator/devices.h"
#include "estimator/predict.h"
#include "planner/cut.h"

namespace ftplan::planner {
namespace {

struct Family {
  Checkpointing checkpointing;
  std::int64_t zero = 0;
};

// Evaluations of one family by micro-batch, each done at most once.
class FamilySearch {
 public:
  FamilySearch(const Setting& setting, Family family, SearchResult& result)
      : setting_(setting), family_(family), result_(result) {}

  /// Puts the largest micro-batch that fits into the result.
  Result<void> run() {
    const auto& choices = setting_.job.micro_batch_choices;  // descending
    auto low = try_choice(choices.size() - 1);
    if (!low) return low.error();
    if (!low->fits()) return {};
    // choices[fitting] fits, choices[failing] does not.
    std::size_t fitting = choices.size() - 1;
    std::ptrdiff_t failing = -1;
    Evaluation best = *std::move(low);
    while (static_cast<std::ptrdiff_t>(fitting) - failing > 1) {
      const auto middle =
          static_cast<std::size_t>((static_cast<std::ptrdiff_t>(fitting) + failing) / 2);
      auto tried = try_choice(middle);
      if (!tried) return tried.error();
      if (tried->fits()) {
        fitting = middle;
        best = *std::move(tried);
      } else {
        failing = static_cast<std::ptrdiff_t>(middle);
      }
    }
    result_.chosen = std::move(best);
    return {};
  }

 private:
  Result<Evaluation> try_choice(std::size_t choice) {
    const std::int64_t micro_batch = setting_.job.micro_batch_choices[choice];
    const auto strategy = with_stages(
        setting_, strategy_of(setting_.job, family_.checkpointing, family_.zero, micro_batch));
    if (!strategy) return strategy.error();
    auto tried = evaluate(setting_, *strategy);
    if (!tried) return tried;
    std::optional<Evaluation>& smallest = result_.smallest;
    if (!smallest || tried->judgement.need < smallest->judgement.need) smallest = *tried;
    if (!tried->fits()) result_.rejected.push_back(*tried);
    return tried;
  }

  const Setting& setting_;
  Family family_;
  SearchResult& result_;
};

// Whose bytes are those of `rank`. Ranks that share data differ only in where their shards begin:
// those between the first and the last need what the second needs, and a test asks them all.
std::int64_t stand_in(std::int64_t rank, const Strategy& strategy, std::int64_t ranks) {
  if (!strategy.stage_layers.empty()) return rank;
  if (strategy.zero == 0) return 0;
  return rank == 0 || rank == ranks - 1 ? rank : 1;
}

}  // namespace

std::vector<std::int64_t> representative_ranks(const Strategy& strategy) {
  const auto& stages = strategy.stage_layers;
  std::vector<std::int64_t> ranks = {0};
  std::set<std::int64_t> lengths;
  for (std::size_t stage = 1; stage < stages.size(); ++stage) {
    if (lengths.insert(stages[stage]).second || stage + 1 == stages.size())
      ranks.push_back(static_cast<std::int64_t>(stage));
  }
  return ranks;
}

Result<Evaluation> evaluate_ranks(const Setting& setting, const Strategy& strategy,
                                  const std::vector<std::int64_t>& ranks) {
  std::vector<std::int64_t> asked;
  for (const std::int64_t rank : ranks) {
    const std::int64_t other = stand_in(rank, strategy, setting.job.ranks());
    if (std::find(asked.begin(), asked.end(), other) == asked.end()) asked.push_back(other);
  }
  const estimator::RunSpec spec{setting.job, strategy, setting.machine, setting.facts,
                                count_steps(setting.job, setting.facts)};
  const auto predictions = estimator::predict_ranks(spec, asked);
  if (!predictions) return predictions.error();
  const std::int64_t on_host = setting.job.devices.per_node;
  const bool replicas = strategy.zero == 0 && strategy.stage_layers.empty();
  const estimator::HostShare share{.ranks = on_host, .writers = replicas ? 1 : on_host};
  std::optional<Evaluation> worst;
  for (const std::int64_t rank : ranks) {
    const auto at =
        std::find(asked.begin(), asked.end(), stand_in(rank, strategy, setting.job.ranks()));
    RankPrediction prediction = (*predictions)[static_cast<std::size_t>(at - asked.begin())];
    prediction.rank = rank;
    Machine machine = setting.machine;
    machine.device_memory =
        estimator::memory_of_rank(setting.machine, setting.job.request.devices, rank);
    const estimator::Judgement judgement = estimator::judge(prediction, machine, share);
    const bool worse =
        !worst || judgement.headroom < worst->judgement.headroom ||
        (judgement.headroom == worst->judgement.headroom && judgement.need > worst->judgement.need);
    if (worse) worst = Evaluation{strategy, std::move(prediction), judgement};
  }
  FTPLAN_CHECK(worst.has_value());
  return *std::move(worst);
}

Result<Evaluation> evaluate(const Setting& setting, const Strategy& strategy) {
  const bool differ = strategy.zero > 0 || setting.job.request.devices.memory.size() > 1;
  if (!differ) return evaluate_ranks(setting, strategy, representative_ranks(strategy));
  std::vector<std::int64_t> ranks(static_cast<std::size_t>(setting.job.ranks()));
  std::iota(ranks.begin(), ranks.end(), std::int64_t{0});
  return evaluate_ranks(setting, strategy, ranks);
}

Strategy strategy_of(const Job& job, Checkpointing checkpointing, std::int64_t zero,
                     std::int64_t micro_batch) {
  Strategy strategy{.micro_batch = micro_batch, .checkpointing = checkpointing, .zero = zero};
  strategy.accumulation = job.global_batch / (job.data_parallel() * micro_batch);
  const LayoutOptions& wanted = job.request.layout;
  if (wanted.loss_chunk) strategy.loss_chunk = *wanted.loss_chunk;
  if (wanted.prefetch) strategy.prefetch = *wanted.prefetch;
  if (wanted.persist_below) strategy.persist_below = *wanted.persist_below;
  return strategy;
}

Result<SearchResult> search(const Setting& setting) {
  FTPLAN_CHECK(!setting.job.micro_batch_choices.empty());
  SearchResult result;
  for (const Checkpointing checkpointing : setting.job.checkpointing_choices) {
    for (const std::int64_t zero : setting.job.zero_choices) {
      if (auto ok = FamilySearch(setting, {checkpointing, zero}, result).run(); !ok)
        return ok.error();
      if (result.chosen) return result;
    }
  }
  return result;
}

std::int64_t count_steps(const Job& job, const std::optional<DataFacts>& facts) {
  if (job.request.training.steps) return *job.request.training.steps;
  if (!facts) return 0;
  const auto per_epoch = static_cast<double>(divide_up(facts->epoch_rows(), job.global_batch));
  return static_cast<std::int64_t>(std::ceil(job.request.training.epochs * per_epoch));
}

}  // namespace ftplan::planner

#include "planner/cut.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "core/job.h"
#include "core/result.h"
#include "core/stage.h"
#include "core/strategy.h"
#include "core/units.h"
#include "estimator/devices.h"
#include "planner/search.h"

namespace ftplan::planner {
namespace {

// Begins with stages of equal length. Edges weigh as much as some layers, and devices may differ,
// so the fullest stage gives layers away as long as that leaves more room on the fullest.
class Cutter {
 public:
  Cutter(const Setting& setting, Strategy strategy)
      : setting_(setting), strategy_(std::move(strategy)) {}

  Result<Strategy> run() {
    std::vector<std::int64_t>& cut = strategy_.stage_layers;
    cut = even_stages(setting_.job.model.layers, setting_.job.stages());
    while (true) {
      std::vector<Bytes> loads;
      for (std::size_t stage = 0; stage < cut.size(); ++stage) {
        const auto load = load_of(stage, cut[stage]);
        if (!load) return load.error();
        loads.push_back(*load);
      }
      const auto fullest =
          static_cast<std::size_t>(std::max_element(loads.begin(), loads.end()) - loads.begin());
      std::size_t taker = fullest;
      Bytes least = loads[fullest];
      for (std::size_t stage = 0; stage < cut.size() && cut[fullest] > 1; ++stage) {
        if (stage == fullest) continue;
        const auto load = load_of(stage, cut[stage] + 1);
        if (!load) return load.error();
        if (*load >= least) continue;
        taker = stage;
        least = *load;
      }
      if (taker == fullest) return strategy_;
      --cut[fullest];
      ++cut[taker];
    }
  }

 private:
  // What the stage needs above what its device has, or above nothing where that is not known.
  // Bytes depend on the length of a stage and on the edges that it has.
  Result<Bytes> load_of(std::size_t stage, std::int64_t layers) {
    const std::size_t last = strategy_.stage_layers.size() - 1;
    const int edges = (stage == 0 ? 1 : 0) + (stage == last ? 2 : 0);
    const auto [entry, added] = needs_.try_emplace({edges, layers});
    const auto rank = static_cast<std::int64_t>(stage);
    if (added) {
      Strategy strategy = strategy_;
      std::vector<std::int64_t>& cut = strategy.stage_layers;
      // The other stages only have to add up.
      cut[stage == 0 ? last : 0] += cut[stage] - layers;
      cut[stage] = layers;
      const auto found = evaluate_ranks(setting_, strategy, {rank});
      if (!found) return found.error();
      entry->second = found->judgement.need;
    }
    const std::optional<Bytes> memory =
        estimator::memory_of_rank(setting_.machine, setting_.job.request.devices, rank);
    return entry->second - memory.value_or(Bytes{});
  }

  const Setting& setting_;
  Strategy strategy_;
  std::map<std::pair<int, std::int64_t>, Bytes> needs_;
};

}  // namespace

Result<Strategy> with_stages(const Setting& setting, Strategy strategy) {
  if (setting.job.stages() == 1) return strategy;
  return Cutter(setting, std::move(strategy)).run();
}

}  // namespace ftplan::planner

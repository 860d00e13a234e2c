#include "core/stage.h"

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/check.h"
#include "core/strategy.h"

namespace ftplan {

Stage stage_of(const Strategy& strategy, std::int64_t layers, std::int64_t rank) {
  const auto& stages = strategy.stage_layers;
  if (stages.empty()) return {.layers = layers};
  Stage stage{.count = static_cast<std::int64_t>(stages.size())};
  stage.index = rank % stage.count;
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < stage.count; ++i) {
    const std::int64_t here = stages[static_cast<std::size_t>(i)];
    if (i < stage.index) stage.first_layer += here;
    if (i == stage.index) stage.layers = here;
    sum += here;
  }
  FTPLAN_CHECK(sum == layers);
  return stage;
}

std::vector<std::int64_t> even_stages(std::int64_t layers, std::int64_t stages) {
  std::vector<std::int64_t> cut(static_cast<std::size_t>(stages), layers / stages);
  for (std::int64_t i = 0; i < layers % stages; ++i) ++cut[static_cast<std::size_t>(i)];
  return cut;
}

}  // namespace ftplan

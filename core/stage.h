#pragma once

#include <cstdint>
#include <vector>

#include "core/strategy.h"

namespace ftplan {

/// One rank's part of a pipeline: some layers in a row. The first stage has the embedding, too, the
/// last the final norm and the head.
struct Stage {
  std::int64_t index = 0;
  std::int64_t count = 1;  ///< 1: no pipeline, the whole model
  std::int64_t first_layer = 0;
  std::int64_t layers = 0;

  [[nodiscard]] bool first() const { return index == 0; }
  [[nodiscard]] bool last() const { return index == count - 1; }
};

/// The stage of `rank` in a model of `layers` layers.
/// @pre `strategy.stage_layers` is empty or adds up to `layers`
Stage stage_of(const Strategy& strategy, std::int64_t layers, std::int64_t rank);

/// As many stages of nearly equal length, the longer ones first.
std::vector<std::int64_t> even_stages(std::int64_t layers, std::int64_t stages);

}  // namespace ftplan

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/category.h"
#include "core/job.h"
#include "core/strategy.h"
#include "planner/room.h"
#include "planner/search.h"
#include "tools/resolve.h"

/// What `ftplan estimate` prints.
namespace ftplan::tools {

/// A method with a layout, and what it needs.
struct EstimateRow {
  Job job;
  planner::Evaluation evaluation;
  [[nodiscard]] const Strategy& strategy() const { return evaluation.strategy; }
  [[nodiscard]] const PlaceBytes& device() const { return evaluation.prediction.device; }
};

struct EstimateScreen {
  const Resolved& resolved;
  const std::vector<EstimateRow>& rows;  ///< not empty
  std::vector<std::string> origin;       ///< lines about another trainer's file
  std::string not_built;
  bool all = false;  ///< checkpointing, scratch and interval have columns of their own
  std::optional<planner::Room> room;
  std::optional<planner::FewestDevices> fewest;
};

/// `ZeRO-1`, `pipeline` or `one device`.
std::string layout_of(const EstimateRow& row);

/// The row that the answer is about: the first that fits, of a pipeline only where nothing else
/// does. Null: none does.
const EstimateRow* best_of(const std::vector<EstimateRow>& rows);
/// The row that needs least.
const EstimateRow& least_of(const std::vector<EstimateRow>& rows);

std::string render_estimate(const EstimateScreen& screen);

}  // namespace ftplan::tools

#pragma once

#include "core/result.h"
#include "core/strategy.h"
#include "planner/search.h"

/// Where a pipeline is cut.
namespace ftplan::planner {

/// `strategy` with the layers of each stage, where the job has a pipeline: those that leave most
/// room on the fullest device.
/// @complexity a few evaluations of a stage, whatever the number of layers and stages
/// @error what lowering refuses
Result<Strategy> with_stages(const Setting& setting, Strategy strategy);

}  // namespace ftplan::planner

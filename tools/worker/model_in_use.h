#pragma once

#include <string>

#include "core/job.h"
#include "core/machine.h"
#include "core/result.h"
#include "executor/loader.h"
#include "models/load.h"

namespace ftplan::tools {

/// A model folder with or without an adapter, ready for evaluation or generation.
struct ModelInUse {
  Job job;
  Machine machine;
  models::ModelSource source;
  executor::Loader loader;
};

/// @param request names model, adapter, precision; `resolve` fills in what the adapter says
/// @error bad input: no folder with weights, an adapter of another model
Result<ModelInUse> open_model(const JobRequest& request);

}  // namespace ftplan::tools

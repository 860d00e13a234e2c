#pragma once

#include <string>
#include <vector>

#include "core/model_config.h"
#include "core/result.h"
#include "models/hub_cache.h"

/// From what a user names to a model.
namespace ftplan::models {

struct ModelSource {
  ModelConfig config;
  std::string folder;  ///< where its files are; empty for a preset
  std::vector<std::string>
      notes;  ///< for the user: what was read differently from what one may expect
};

/// `source` is, in this order: the name of a preset, a model folder, the path of a `config.json`,
/// or `org/name` in the local Hugging Face cache. Where the folder holds weights, `config.stored`
/// is their element type.
/// @error bad input: what is wrong with the configuration, or the nearest preset to a name that is
/// nothing of these
Result<ModelSource> load_model_config(const std::string& source, const HubEnvironment& environment);

}  // namespace ftplan::models

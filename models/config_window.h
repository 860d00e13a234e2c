#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "models/family_row.h"

namespace ftplan::models {

/// `config` with its window and the layers that have it; `config.layers` must be there already, and
/// `config.window` be the default of its family.
/// @error windows in layers that are no arithmetic sequence are not built yet
Result<ModelConfig> with_window(ModelConfig config, WindowRule rule, const Json& json,
                                const std::string& where);

/// Keys that it looks at.
std::vector<std::string> window_keys();

}  // namespace ftplan::models

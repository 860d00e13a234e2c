#pragma once

#include <vector>

#include "models/preset_files.h"

namespace ftplan::estimator {

using models::EmbeddedFile;

/// `configs/nodes/*.json`, put here by the build.
const std::vector<EmbeddedFile>& node_files();

}  // namespace ftplan::estimator

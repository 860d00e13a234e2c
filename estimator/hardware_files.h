#pragma once

#include <vector>

#include "models/preset_files.h"

namespace ftplan::estimator {

using models::EmbeddedFile;

/// `configs/hardware/*.json`, put here by the build.
const std::vector<EmbeddedFile>& hardware_files();

}  // namespace ftplan::estimator

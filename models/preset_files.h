#pragma once

#include <string_view>
#include <vector>

namespace ftplan::models {

/// A file of `configs/` inside the binary.
struct EmbeddedFile {
  std::string_view name;  ///< without folder and extension
  std::string_view text;
};

/// `configs/models/*.json`, put here by the build.
const std::vector<EmbeddedFile>& preset_files();

}  // namespace ftplan::models

#pragma once

#include <string_view>
#include <vector>

namespace ftplan::program {

/// A file of `configs/` inside the binary.
struct EmbeddedFile {
  std::string_view name;  ///< without folder and extension
  std::string_view text;
};

/// `configs/runtimes/*.json`, put here by the build.
const std::vector<EmbeddedFile>& runtime_files();

}  // namespace ftplan::program

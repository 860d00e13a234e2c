#pragma once

#include <string_view>
#include <vector>

namespace ftplan::reports {

/// A file of this folder inside the library.
struct EmbeddedFile {
  std::string_view name;  ///< without folder and extension
  std::string_view text;
};

/// `page.css`, put here by the build.
const std::vector<EmbeddedFile>& page_files();

}  // namespace ftplan::reports

#include <filesystem>
#include <string>

#include "core/check.h"
#include "fuzz.h"
#include "models/shards.h"

// No path leaves the folder.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto index = ftplan::models::parse_index(ftplan::text_of(data, size), "fuzz");
  if (!index) return 0;
  const std::filesystem::path folder = "/folder/";
  for (const auto& [tensor, file] : *index) {
    const std::string path = (folder / file).lexically_normal().string();
    FTPLAN_CHECK(path.starts_with(folder.string()));
  }
  return 0;
}

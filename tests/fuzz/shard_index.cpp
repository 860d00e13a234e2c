#include "core/check.h"
#include "fuzz.h"
#include "models/shards.h"

// No path leaves the folder.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto index = ftplan::models::parse_index(ftplan::text_of(data, size), "fuzz");
  if (!index) return 0;
  for (const auto& [tensor, file] : *index) {
    FTPLAN_CHECK(!file.empty() && file.find('/') == std::string::npos && file != "..");
  }
  return 0;
}

#include "tools/import/imported_job.h"

#include "fuzz.h"

// The first byte chooses between YAML and JSON.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string name = data[0] % 2 == 0 ? "fuzz.json" : "fuzz.yml";
  const auto imported = ftplan::tools::import_job(ftplan::text_of(data + 1, size - 1), name);
  if (imported) (void)ftplan::tools::request_of(*imported, name);
  return 0;
}

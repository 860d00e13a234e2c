#include <optional>

#include "core/job.h"
#include "core/json.h"
#include "core/model_config.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto json = ftplan::parse_json(ftplan::text_of(data, size), "fuzz");
  if (!json) return 0;
  const auto request = ftplan::from_json<ftplan::JobRequest>(*json, "fuzz");
  if (!request) return 0;
  (void)ftplan::validate(*request, ftplan::ModelConfig{}, std::nullopt);
  return 0;
}

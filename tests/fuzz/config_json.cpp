#include "core/check.h"
#include "fuzz.h"
#include "models/config_reader.h"
#include "models/family.h"

// Every configuration that is read has a table of weights.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto config = ftplan::models::read_config(ftplan::text_of(data, size), "fuzz");
  if (!config) return 0;
  const auto blueprint = ftplan::models::make_blueprint(*config);
  FTPLAN_CHECK(!blueprint.layer.empty());
  for (const auto& weight : blueprint.layer) FTPLAN_CHECK(weight.shape.elements() > 0);
  FTPLAN_CHECK(ftplan::models::count_parameters(*config) > 0);
  return 0;
}

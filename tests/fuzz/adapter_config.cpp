#include "models/adapter_config.h"

#include "core/model_config.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto config = ftplan::models::read_adapter_config(ftplan::text_of(data, size), "fuzz");
  if (!config) return 0;
  const ftplan::ModelConfig model{.hidden = 64, .layers = 4};
  (void)ftplan::models::adapted_linears(*config, model, "fuzz");
  return 0;
}

#include <filesystem>
#include <string>
#include <string_view>

#include "core/check.h"
#include "fuzz.h"
#include "models/adapter_config.h"
#include "models/config_reader.h"
#include "models/family.h"
#include "models/shards.h"

namespace {

using namespace ftplan;

// Every configuration that is read has a table of weights.
void read_model(std::string_view text) {
  const auto config = models::read_config(text, "fuzz");
  if (!config) return;
  const auto blueprint = models::make_blueprint(*config);
  FTPLAN_CHECK(!blueprint.layer.empty());
  for (const auto& weight : blueprint.layer) FTPLAN_CHECK(weight.shape.elements() > 0);
  FTPLAN_CHECK(models::count_parameters(*config) > 0);
}

void read_adapter(std::string_view text) {
  const auto config = models::read_adapter_config(text, "fuzz");
  if (config) (void)models::adapted_linears(*config, {.hidden = 64, .layers = 4}, "fuzz");
}

// No path leaves the folder.
void read_index(std::string_view text) {
  const auto index = models::parse_index(text, "fuzz");
  if (!index) return;
  const std::filesystem::path folder = "/folder/";
  for (const auto& [tensor, file] : *index) {
    const std::string path = (folder / file).lexically_normal().string();
    FTPLAN_CHECK(path.starts_with(folder.string()));
  }
}

}  // namespace

// The JSON that a model's or an adapter's folder holds: config.json, adapter_config.json and the
// index of the shards.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = ftplan::text_of(data, size);
  read_model(text);
  read_adapter(text);
  read_index(text);
  return 0;
}

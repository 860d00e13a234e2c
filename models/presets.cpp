#include "models/presets.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/fields.h"
#include "core/json.h"
#include "core/result.h"
#include "models/config_reader.h"
#include "models/family.h"
#include "models/preset_files.h"

namespace ftplan {
namespace models {
namespace {

// The form of a preset file.
struct PresetFile {
  std::string name;
  std::string repository;
  std::string source;
  std::int64_t parameters = 0;
  Json config;
};

}  // namespace
}  // namespace models

template <>
inline constexpr auto fields<models::PresetFile> =
    std::tuple{Field{"name", &models::PresetFile::name, "What --model takes."},
               Field{"repository", &models::PresetFile::repository,
                     "Where its weights are on the Hugging Face hub."},
               Field{"source", &models::PresetFile::source, "Where its numbers are from."},
               Field{"parameters", &models::PresetFile::parameters, "", Range{1, 1e15},
                     "Parameters, a tied head once."},
               Field{"config", &models::PresetFile::config,
                     "The model's config.json, reduced to what shapes it."}};

namespace models {
namespace {

Result<void> check_keys(const Json& config, const std::string& where) {
  const std::vector<std::string>& known = config_keys();
  for (const auto& entry : config.items()) {
    if (std::find(known.begin(), known.end(), entry.key()) == known.end()) {
      return json_detail::unknown_key(where, entry.key(), known);
    }
  }
  return {};
}

std::vector<Preset> read_presets() {
  std::vector<Preset> all;
  for (const EmbeddedFile& file : preset_files()) {
    auto preset = read_preset(file.text, std::string(file.name));
    FTPLAN_CHECK(preset.ok() && preset->name == file.name);
    all.push_back(*std::move(preset));
  }
  return all;
}

}  // namespace

Result<Preset> read_preset(std::string_view json_text, const std::string& where) {
  const auto json = parse_json(json_text, where);
  if (!json) return json.error();
  auto file = from_json<PresetFile>(*json, where, Missing::kIsAnError);
  if (!file) return file.error();
  const std::string place = json_detail::child(where, "config");
  if (!file->config.is_object()) return json_detail::wrong(place, file->config, "an object");
  if (auto known = check_keys(file->config, place); !known) return known.error();
  auto config = read_config(file->config.dump(), place);
  if (!config) return config.error();
  config->name = file->name;
  if (const std::int64_t counted = count_parameters(*config); counted != file->parameters) {
    return bad_input(json_detail::child(where, "parameters"),
                     "got " + std::to_string(file->parameters) + ", the configuration has " +
                         std::to_string(counted));
  }
  return Preset{file->name, file->repository, file->source, file->parameters, *std::move(config)};
}

const std::vector<Preset>& presets() {
  static const std::vector<Preset> kPresets = read_presets();
  return kPresets;
}

const Preset* find_preset(std::string_view name) {
  for (const Preset& preset : presets()) {
    if (preset.name == name) return &preset;
  }
  return nullptr;
}

}  // namespace models
}  // namespace ftplan

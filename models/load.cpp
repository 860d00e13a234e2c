#include "models/load.h"

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/enums.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/text.h"
#include "models/checkpoint.h"
#include "models/config_reader.h"
#include "models/convert.h"
#include "models/files.h"
#include "models/hub_cache.h"
#include "models/presets.h"

namespace ftplan::models {
namespace {

// The element type of most bytes of the weights, when they are there.
std::optional<DType> stored_dtype(const std::string& folder) {
  const auto checkpoint = Checkpoint::open(folder);
  if (!checkpoint)
    return std::nullopt;  // without weights, or broken: that is said where they are needed
  std::map<DType, std::size_t> bytes;
  for (const auto& [name, tensor] : checkpoint->tensors()) {
    const auto dtype = tensor->dtype();
    // Not the scales of quantized ones.
    const bool weight = name.ends_with(".weight") || name.ends_with(".bias");
    if (weight && dtype && is_float(*dtype)) bytes[*dtype] += tensor->bytes.size();
  }
  std::optional<DType> most;
  for (const auto& [dtype, count] : bytes) {
    if (!most || count > bytes[*most]) most = dtype;
  }
  return most;
}

Result<ModelSource> load_file(const std::string& path, const std::string& name) {
  const auto text = read_text_file(path);
  if (!text) return text.error();
  auto reading = read_config_with_notes(*text, path);
  if (!reading) return reading.error();

  ModelSource source;
  source.config = std::move(reading->config);
  source.notes = std::move(reading->notes);
  source.folder = folder_of(path);
  source.config.name = name;
  if (const auto stored = stored_dtype(source.folder); stored && *stored != source.config.stored) {
    if (reading->has_dtype) {
      source.notes.push_back("the weights are stored as " + std::string(to_text(*stored)) +
                             ", config.json says " + to_text(source.config.stored));
    }
    source.config.stored = *stored;
  }
  return source;
}

Result<ModelSource> load_folder(const std::string& folder, const std::string& name) {
  const std::string config = join_path(folder, kConfigFile);
  if (!is_file(config))
    return bad_input(folder, "has no config.json: is it a Hugging Face model folder?");
  return load_file(config, name);
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const Preset& preset : presets()) names.push_back(preset.name);
  return names;
}

Error unknown_source(const std::string& source) {
  const std::vector<std::string> names = preset_names();
  return bad_input(source, "is no preset, folder or file; did you mean \"" +
                               nearest(source, names) + "\"? Presets: " + join(names, ", "));
}

// A repository that is not there may still be known by its shape.
Error not_downloaded(const std::string& repository, const Error& error) {
  for (const Preset& preset : presets()) {
    if (preset.repository != repository) continue;
    return bad_input(error.where,
                     error.message + "; to plan without its files, name the preset " + preset.name);
  }
  return error;
}

}  // namespace

Result<ModelSource> load_model_config(const std::string& source,
                                      const HubEnvironment& environment) {
  if (const Preset* preset = find_preset(source)) return ModelSource{.config = preset->config};
  if (is_folder(source)) {
    return load_folder(source, last_part(absolute_path(source)));
  }
  if (is_file(source)) {
    return load_file(source, last_part(folder_of(absolute_path(source))));
  }
  if (!is_repository_name(source)) return unknown_source(source);
  const auto snapshot = find_snapshot(source, environment);
  if (!snapshot) return not_downloaded(source, snapshot.error());
  return load_folder(*snapshot, source);
}

}  // namespace ftplan::models

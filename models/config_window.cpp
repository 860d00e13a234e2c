#include "models/config_window.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "models/config_field.h"
#include "models/family_row.h"
#include "models/files.h"

namespace ftplan::models {
namespace {

constexpr const char* kWindow = "sliding_window";
constexpr const char* kUse = "use_sliding_window";
constexpr const char* kFirst = "max_window_layers";
constexpr const char* kTypes = "layer_types";

ModelConfig without_window(ModelConfig config) {
  config.window = 0;
  config.window_first = 0;
  config.window_every = 1;
  return config;
}

// Which layers have the window, from one word for each.
Result<ModelConfig> with_types(ModelConfig config, const Json& json, const std::string& where) {
  const std::string place = json_detail::child(where, kTypes);
  const auto types =
      read_value<std::vector<std::string>>(json.at(kTypes), place, Missing::kKeepDefault);
  if (!types) return types.error();
  const auto layers = static_cast<std::size_t>(config.layers);
  if (types->size() != layers) {
    return bad_input(place, "got " + std::to_string(types->size()) +
                                " words, expected one for each of " + std::to_string(layers) +
                                " layers");
  }
  std::vector<std::int64_t> windowed;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const std::string& type = (*types)[layer];
    if (type == "sliding_attention") {
      windowed.push_back(static_cast<std::int64_t>(layer));
    } else if (type != "full_attention") {
      return bad_input(
          place + "/" + std::to_string(layer),
          in_quotes(type) + " is not built yet: expected sliding_attention or full_attention");
    }
  }
  if (windowed.empty()) return without_window(std::move(config));
  if (config.window == 0) {
    return bad_input(place, "has layers with sliding_attention, but there is no sliding_window");
  }
  config.window_first = windowed.front();
  config.window_every = windowed.size() > 1 ? windowed[1] - windowed[0] : config.layers;
  std::size_t next = 0;
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const bool listed = next < windowed.size() && windowed[next] == layer;
    if (listed != config.has_window(layer)) {
      return bad_input(place, "windows in layers that are not equally far apart are not built yet");
    }
    next += listed ? 1 : 0;
  }
  return config;
}

}  // namespace

Result<ModelConfig> with_window(ModelConfig config, WindowRule rule, const Json& json,
                                const std::string& where) {
  if (rule == WindowRule::kNone) return without_window(std::move(config));
  if (json.contains(kWindow)) {
    const auto window = read_or<std::int64_t>(json, where, kWindow, 0, {1, 1 << 24}, "tokens");
    if (!window) return window.error();
    config.window = *window;
  }
  if (rule == WindowRule::kEverySecond) config.window_every = 2;
  if (rule == WindowRule::kFromLayer) {
    // Defaults of Qwen2Config and Qwen3Config.
    const auto used = read_or<bool>(json, where, kUse, false);
    if (!used) return used.error();
    const auto first = read_or<std::int64_t>(json, where, kFirst, 28, {0, 1 << 12}, "layers");
    if (!first) return first.error();
    if (!*used) config.window = 0;
    config.window_first = *first;
  }
  if (rule != WindowRule::kEveryLayer && is_set(json, kTypes))
    return with_types(std::move(config), json, where);
  const bool none = config.window == 0 || config.window_first >= config.layers;
  return none ? without_window(std::move(config)) : config;
}

std::vector<std::string> window_keys() { return {kWindow, kUse, kFirst, kTypes}; }

}  // namespace ftplan::models

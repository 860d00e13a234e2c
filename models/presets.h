#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/model_config.h"
#include "core/result.h"

/// Models that ftplan knows without their files: `configs/models/*.json`, inside the binary.
namespace ftplan::models {

struct Preset {
  std::string name;        ///< `llama2-7b`
  std::string repository;  ///< where its weights are on the Hugging Face hub
  std::string source;      ///< where its numbers are from
  std::int64_t parameters = 0;
  ModelConfig config;
};

/// All presets, by family and size.
const std::vector<Preset>& presets();

/// Null when no preset has this name.
const Preset* find_preset(std::string_view name);

/// Reads one file of `configs/models/`. Stricter than `read_config`: no unknown key, and
/// `parameters` must be what the configuration adds up to.
Result<Preset> read_preset(std::string_view json_text, const std::string& where);

}  // namespace ftplan::models

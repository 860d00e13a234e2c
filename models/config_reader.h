#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/model_config.h"
#include "core/result.h"

/// Hugging Face `config.json` of the families of family_row.h, with the defaults that transformers
/// fills in.
/// @source transformers 5.23 `configuration_utils.py`, `modeling_rope_utils.py`
namespace ftplan::models {

inline constexpr const char* kConfigFile = "config.json";

/// How `config.json` calls an element type of weights.
const char* dtype_name(DType dtype);

struct ConfigReading {
  ModelConfig config;              ///< without a name
  bool has_dtype = false;          ///< the text says how the weights are stored
  std::vector<std::string> notes;  ///< what was read differently from what a user may expect
};

/// Reads the keys that shape the model and leaves all others alone.
/// @error bad input, `config.json#/num_attention_heads: got 0, expected 1..4096 heads`; what
///        transformers knows and ftplan does not is refused by name, with reason and way out
Result<ConfigReading> read_config_with_notes(std::string_view json_text, const std::string& where);

/// The same without the notes.
Result<ModelConfig> read_config(std::string_view json_text, const std::string& where);

/// Keys that the reader looks at, so that a preset can be refused that has others.
const std::vector<std::string>& config_keys();

}  // namespace ftplan::models

#pragma once

#include <string>

#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"

namespace ftplan::models {

/// `config` with its rotary members read from `rope_theta` and `rope_scaling`, or from
/// `rope_parameters` of transformers 5; `config.positions` must be there already.
/// @source transformers 5.23 `modeling_rope_utils.py` (convert_rope_params_to_dict,
/// standardize_rope_params)
Result<ModelConfig> with_rope(ModelConfig config, const Json& json, const std::string& where);

}  // namespace ftplan::models

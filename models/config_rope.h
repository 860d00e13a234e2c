#pragma once

#include <string>

#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "models/family_row.h"

namespace ftplan::models {

/// `config` with its rotary members read from `rope_theta` and `rope_scaling`, or from
/// `rope_parameters` of transformers 5; `config.positions` and `config.head_size` must be there
/// already. Positions become those that the scaling rule is good for.
/// @source transformers 5.23 `modeling_rope_utils.py` (convert_rope_params_to_dict,
/// standardize_rope_params)
Result<ModelConfig> with_rope(ModelConfig config, const Json& json, const std::string& where,
                              RopeRule rule);

}  // namespace ftplan::models

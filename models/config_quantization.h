#pragma once

#include <string>

#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"

namespace ftplan::models {

inline constexpr const char* kQuantizationKey = "quantization_config";

/// `config` with how its linears are stored, from `quantization_config`; the rest must be there
/// already.
/// @source transformers 5.23 `utils/quantization_config.py` (BitsAndBytesConfig) and
///   `quantizers/base.py` (get_modules_to_not_convert)
/// @error bad input: everything but bitsandbytes' NF4 and int8 of all linears of the layers
Result<ModelConfig> with_quantization(ModelConfig config, const Json& json,
                                      const std::string& where);

}  // namespace ftplan::models

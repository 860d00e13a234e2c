#pragma once

#include "core/model_config.h"
#include "models/family.h"

/// Llama 1, 2 and 3.x: RMSNorm, rotary attention with grouped keys and values, SwiGLU.
/// @source transformers 5.23 `models/llama/modeling_llama.py`
namespace ftplan::models {

Blueprint llama_blueprint(const ModelConfig& config);

}  // namespace ftplan::models

#include "core/model_config.h"
#include "models/decoder.h"
#include "models/family_row.h"

// Llama 1, 2 and 3.x: RMSNorm, rotary attention with grouped keys and values, SwiGLU.
// @source transformers 5.23 `models/llama/configuration_llama.py`, `modeling_llama.py`

namespace ftplan::models {

FamilyRow llama_family() {
  FamilyRow row{.family = Family::kLlama, .model_type = "llama", .stem = "Llama"};
  row.defaults.kv_heads = 0;
  row.defaults.head_size = 0;
  row.heads_divide_hidden = true;
  row.flags = {{"attention_bias", &ModelConfig::attention_bias},
               {"mlp_bias", &ModelConfig::mlp_bias}};
  row.only = {only_silu(),
              {"pretraining_tp", 1,
               "linears cut for tensor parallel pre-training are not built; the weights are the "
               "same, so 1 gives the same model"}};
  row.blueprint = [](const ModelConfig& config) { return decoder_blueprint(config); };
  return row;
}

}  // namespace ftplan::models

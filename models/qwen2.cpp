#include "core/model_config.h"
#include "models/decoder.h"
#include "models/family_row.h"

// Qwen2 and Qwen2.5: the decoder of Llama with biases on queries, keys and values.
// @source transformers 5.23 `models/qwen2/configuration_qwen2.py`, `modeling_qwen2.py`

namespace ftplan::models {

FamilyRow qwen2_family() {
  FamilyRow row{.family = Family::kQwen2, .model_type = "qwen2", .stem = "Qwen2"};
  row.defaults.family = Family::kQwen2;
  row.defaults.vocabulary = 151936;
  row.defaults.intermediate = 22016;
  row.defaults.head_size = 0;
  row.defaults.positions = 32768;
  row.defaults.window = 4096;
  row.defaults.attention_bias = true;
  row.defaults.bos_token = -1;
  row.defaults.eos_token = -1;
  row.windows = WindowRule::kFromLayer;
  row.only = {only_silu()};
  row.blueprint = [](const ModelConfig& config) {
    return decoder_blueprint(config, {.output_bias = false});
  };
  return row;
}

}  // namespace ftplan::models

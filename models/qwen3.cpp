#include "core/model_config.h"
#include "models/decoder.h"
#include "models/family_row.h"

// Qwen3, dense: the decoder of Llama with norms on each head of queries and keys, and heads whose
// size is given.
// @source transformers 5.23 `models/qwen3/configuration_qwen3.py`, `modeling_qwen3.py`

namespace ftplan::models {

FamilyRow qwen3_family() {
  FamilyRow row{.family = Family::kQwen3, .model_type = "qwen3", .stem = "Qwen3"};
  row.defaults.family = Family::kQwen3;
  row.defaults.vocabulary = 151936;
  row.defaults.intermediate = 22016;
  row.defaults.head_size = 128;
  row.defaults.positions = 32768;
  row.defaults.window = 4096;
  row.defaults.bos_token = -1;
  row.defaults.eos_token = -1;
  row.windows = WindowRule::kFromLayer;
  row.flags = {{"attention_bias", &ModelConfig::attention_bias}};
  row.only = {only_silu()};
  row.blueprint = [](const ModelConfig& config) {
    return decoder_blueprint(config, {.head_norms = true});
  };
  return row;
}

}  // namespace ftplan::models

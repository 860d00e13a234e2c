#include "core/model_config.h"
#include "models/decoder.h"
#include "models/family_row.h"

// Mistral: the decoder of Llama without biases, with a sliding window in every layer or in none.
// @source transformers 5.23 `models/mistral/configuration_mistral.py`, `modeling_mistral.py`

namespace ftplan::models {

FamilyRow mistral_family() {
  FamilyRow row{.family = Family::kMistral, .model_type = "mistral", .stem = "Mistral"};
  row.defaults.family = Family::kMistral;
  row.defaults.intermediate = 14336;
  row.defaults.kv_heads = 8;
  row.defaults.head_size = 0;
  row.defaults.positions = 131072;
  row.defaults.window = 4096;
  row.windows = WindowRule::kEveryLayer;
  row.only = {only_silu()};
  row.blueprint = [](const ModelConfig& config) { return decoder_blueprint(config); };
  return row;
}

}  // namespace ftplan::models

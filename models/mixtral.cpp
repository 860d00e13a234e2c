#include <cstdint>
#include <string>
#include <utility>

#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "models/config_field.h"
#include "models/decoder.h"
#include "models/family.h"
#include "models/family_row.h"

// Mixtral: the attention of Llama's kin, and in place of an MLP a router and experts, of which each
// token sees a few. Files name each expert's matrices; transformers 5 stacks them in memory.
// @source transformers 5.23 `models/mixtral/configuration_mixtral.py`, `modeling_mixtral.py`,
// `conversion_mapping.py`

namespace ftplan::models {
namespace {

Blueprint mixtral_blueprint(const ModelConfig& c) {
  LayerBuilder layer(c);
  add_attention(layer, c, {});
  layer.norm("post_attention_layernorm", c.hidden, Value::kResidual, Value::kNormed);
  layer.experts("block_sparse_moe", Value::kNormed, Value::kBranch);
  layer.op(LayerOpKind::kAddResidual, Value::kBranch, Value::kResidual);
  return std::move(layer).finish();
}

Result<ModelConfig> check_experts(ModelConfig config, const Json& json, const std::string& where) {
  // The matrices of all experts are one tensor in memory, without gaps between them.
  constexpr std::int64_t kMultiple = 256;
  if (config.hidden * config.intermediate % kMultiple != 0) {
    return bad_input(json_detail::child(where, "intermediate_size"),
                     "got " + std::to_string(config.intermediate) +
                         ", which times hidden_size is " +
                         std::to_string(config.hidden * config.intermediate) +
                         " values: experts are not built yet but of a multiple of " +
                         std::to_string(kMultiple) + " values");
  }
  if (config.experts_per_token >= 1 && config.experts_per_token <= config.experts) return config;
  const char* key =
      is_set(json, "num_experts_per_tok") ? "num_experts_per_tok" : "num_local_experts";
  return bad_input(json_detail::child(where, key),
                   "got " + std::to_string(config.experts_per_token) + " experts for a token of " +
                       std::to_string(config.experts) +
                       ": expected at least one and no more than there are");
}

}  // namespace

FamilyRow mixtral_family() {
  FamilyRow row{.family = Family::kMixtral, .model_type = "mixtral", .stem = "Mixtral"};
  row.defaults.family = Family::kMixtral;
  row.defaults.intermediate = 14336;
  row.defaults.kv_heads = 8;
  row.defaults.head_size = 0;
  row.defaults.positions = 4096 * 32;
  row.defaults.norm_epsilon = 1e-5;
  row.defaults.rope_theta = 1e6;
  row.defaults.experts = 8;
  row.defaults.experts_per_token = 2;
  row.windows = WindowRule::kEveryLayer;
  row.integers = {{"num_local_experts", &ModelConfig::experts},
                  {"num_experts_per_tok", &ModelConfig::experts_per_token}};
  row.only = {only_silu(),
              {"output_router_logits", false,
               "the loss that balances experts is not built yet; transformers leaves it out, too, "
               "where this is false"},
              {"router_jitter_noise", 0.0, "noise before the router is not built yet"}};
  row.resolve = check_experts;
  row.blueprint = mixtral_blueprint;
  return row;
}

}  // namespace ftplan::models

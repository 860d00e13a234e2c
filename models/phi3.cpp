#include <cstdint>
#include <utility>

#include "core/model_config.h"
#include "models/decoder.h"
#include "models/family.h"
#include "models/family_row.h"

// Phi-3: the decoder of Llama with one linear for queries, keys and values, and one for gate and
// up. They stay fused, as in the checkpoint, so that adapters are PEFT's; their parts are views.
// @source transformers 5.23 `models/phi3/configuration_phi3.py`, `modeling_phi3.py`

namespace ftplan::models {
namespace {

Blueprint phi3_blueprint(const ModelConfig& c) {
  const std::int64_t query = c.heads * c.head_size;
  const std::int64_t fused = query + 2 * c.kv_heads * c.head_size;
  LayerBuilder layer(c);
  layer.norm("input_layernorm", c.hidden, Value::kResidual, Value::kNormed);
  layer.linear("self_attn.qkv_proj", Value::kNormed, Value::kQueryKeyValue, {fused, c.hidden});
  layer.op(LayerOpKind::kSplit, Value::kQueryKeyValue, Value::kQuery);
  layer.op(LayerOpKind::kRotate, Value::kQuery, Value::kQuery);
  layer.op(LayerOpKind::kRotate, Value::kKey, Value::kKey);
  layer.op(LayerOpKind::kAttention, Value::kQuery, Value::kAttended);
  layer.linear("self_attn.o_proj", Value::kAttended, Value::kBranch, {c.hidden, query});
  layer.op(LayerOpKind::kAddResidual, Value::kBranch, Value::kResidual);
  layer.norm("post_attention_layernorm", c.hidden, Value::kResidual, Value::kNormed);
  layer.linear("mlp.gate_up_proj", Value::kNormed, Value::kGateUp, {2 * c.intermediate, c.hidden});
  layer.op(LayerOpKind::kSplit, Value::kGateUp, Value::kGate);
  layer.op(LayerOpKind::kGatedSilu, Value::kGate, Value::kActivated);
  layer.linear("mlp.down_proj", Value::kActivated, Value::kBranch, {c.hidden, c.intermediate});
  layer.op(LayerOpKind::kAddResidual, Value::kBranch, Value::kResidual);
  return std::move(layer).finish();
}

}  // namespace

FamilyRow phi3_family() {
  FamilyRow row{.family = Family::kPhi3, .model_type = "phi3", .stem = "Phi3"};
  row.defaults.family = Family::kPhi3;
  row.defaults.vocabulary = 32064;
  row.defaults.hidden = 3072;
  row.defaults.intermediate = 8192;
  row.defaults.kv_heads = 0;
  row.defaults.head_size = 0;
  row.defaults.positions = 4096;
  row.defaults.norm_epsilon = 1e-5;
  row.defaults.eos_token = 32000;
  row.defaults.rope_original_positions = 4096;
  row.windows = WindowRule::kEveryLayer;
  row.rope = RopeRule::kPhi3;
  const char* dropout = "dropout on the residual stream is not built yet";
  row.only = {only_silu(), {"resid_pdrop", 0.0, dropout}, {"embd_pdrop", 0.0, dropout}};
  row.blueprint = phi3_blueprint;
  return row;
}

}  // namespace ftplan::models

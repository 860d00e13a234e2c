#include <cmath>
#include <cstdint>
#include <utility>

#include "core/model_config.h"
#include "models/decoder.h"
#include "models/family.h"
#include "models/family_row.h"

// Gemma 2: norms before and after attention and MLP that multiply by 1 + weight, a gelu by tanh,
// scaled embeddings, soft caps on scores and logits, and a window in every second layer.
// @source transformers 5.23 `models/gemma2/configuration_gemma2.py`, `modeling_gemma2.py`

namespace ftplan::models {
namespace {

Blueprint gemma2_blueprint(const ModelConfig& c) {
  using Bias = LayerBuilder::Bias;
  const std::int64_t query = c.heads * c.head_size;
  const std::int64_t key = c.kv_heads * c.head_size;
  const Bias bias = c.attention_bias ? Bias::kYes : Bias::kNo;
  LayerBuilder layer(c);
  layer.norm("input_layernorm", c.hidden, Value::kResidual, Value::kNormed);
  layer.linear("self_attn.q_proj", Value::kNormed, Value::kQuery, {query, c.hidden}, bias);
  layer.linear("self_attn.k_proj", Value::kNormed, Value::kKey, {key, c.hidden}, bias);
  layer.linear("self_attn.v_proj", Value::kNormed, Value::kValue, {key, c.hidden}, bias);
  layer.op(LayerOpKind::kRotate, Value::kQuery, Value::kQuery);
  layer.op(LayerOpKind::kRotate, Value::kKey, Value::kKey);
  layer.op(LayerOpKind::kAttention, Value::kQuery, Value::kAttended);
  layer.linear("self_attn.o_proj", Value::kAttended, Value::kBranch, {c.hidden, query}, bias);
  layer.norm("post_attention_layernorm", c.hidden, Value::kBranch, Value::kBranch);
  layer.op(LayerOpKind::kAddResidual, Value::kBranch, Value::kResidual);
  layer.norm("pre_feedforward_layernorm", c.hidden, Value::kResidual, Value::kNormed);
  layer.linear("mlp.gate_proj", Value::kNormed, Value::kGate, {c.intermediate, c.hidden});
  layer.linear("mlp.up_proj", Value::kNormed, Value::kUp, {c.intermediate, c.hidden});
  layer.op(LayerOpKind::kGatedGelu, Value::kGate, Value::kActivated);
  layer.linear("mlp.down_proj", Value::kActivated, Value::kBranch, {c.hidden, c.intermediate});
  layer.norm("post_feedforward_layernorm", c.hidden, Value::kBranch, Value::kBranch);
  layer.op(LayerOpKind::kAddResidual, Value::kBranch, Value::kResidual);
  Blueprint blueprint = std::move(layer).finish();
  blueprint.norm_offset = 1;
  blueprint.embedding_scale = std::sqrt(static_cast<double>(c.hidden));
  return blueprint;
}

}  // namespace

FamilyRow gemma2_family() {
  FamilyRow row{.family = Family::kGemma2, .model_type = "gemma2", .stem = "Gemma2"};
  ModelConfig& c = row.defaults;
  c.family = Family::kGemma2;
  c.vocabulary = 256000;
  c.hidden = 2304;
  c.intermediate = 9216;
  c.layers = 26;
  c.heads = 8;
  c.kv_heads = 4;
  c.head_size = 256;
  c.positions = 8192;
  c.window = 4096;
  c.query_scale = 256;
  c.attention_cap = 50;
  c.logit_cap = 30;
  c.tied_embeddings = true;
  c.bos_token = 2;
  c.eos_token = 1;
  row.heads_divide_hidden = true;
  row.windows = WindowRule::kEverySecond;
  row.flags = {{"attention_bias", &ModelConfig::attention_bias}};
  row.numbers = {{"query_pre_attn_scalar", &ModelConfig::query_scale},
                 {"attn_logit_softcapping", &ModelConfig::attention_cap},
                 {"final_logit_softcapping", &ModelConfig::logit_cap}};
  row.only = {{"hidden_activation", "gelu_pytorch_tanh", "other activations are not built yet"},
              {"use_bidirectional_attention", false, "ftplan trains causal language models"}};
  row.blueprint = gemma2_blueprint;
  return row;
}

}  // namespace ftplan::models

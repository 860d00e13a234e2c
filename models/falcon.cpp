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

// Falcon: LayerNorms, one linear for queries, keys and values, and an MLP of two linears and a
// gelu. Three layouts: 7B (`multi_query`) feeds attention and MLP from one norm, 40B and 180B
// (`new_decoder_architecture`) from one each, and RW has them one after the other, with alibi. The
// fused linear's rows are those of all: for each key head the query heads that share it, then the
// key, then the value.
// @source transformers 5.23 `models/falcon/configuration_falcon.py`, `modeling_falcon.py`

namespace ftplan::models {
namespace {

constexpr const char* kNewer = "new_decoder_architecture";
constexpr const char* kMultiQuery = "multi_query";
constexpr const char* kParallel = "parallel_attn";
constexpr const char* kNorms = "num_ln_in_parallel_attn";
constexpr const char* kKeyHeads = "num_kv_heads";

Error wrong(const std::string& where, const char* key, const std::string& message) {
  return bad_input(json_detail::child(where, key), message);
}

Result<ModelConfig> resolve(ModelConfig c, const Json& json, const std::string& where) {
  const auto newer = read_or<bool>(json, where, kNewer, false);
  if (!newer) return newer.error();
  const auto multi_query = read_or<bool>(json, where, kMultiQuery, true);
  if (!multi_query) return multi_query.error();
  const auto norms = read_or<std::int64_t>(json, where, kNorms, *newer ? 2 : 1, {1, 2}, "norms");
  if (!norms) return norms.error();
  // What follows fails in transformers, too.
  if (*newer && !c.parallel) {
    return wrong(
        where, kParallel,
        std::string("got false, expected true: ") + kNewer + " has attention and MLP side by side");
  }
  if (!*newer && c.parallel && *norms == 2) {
    return wrong(where, kNorms,
                 std::string("got 2, expected 1: only ") + kNewer + " has a norm for each");
  }
  c.shared_norm = c.parallel && *norms == 1;
  if (*newer) return c;
  if (*multi_query) {
    c.kv_heads = 1;
  } else if (c.kv_heads != c.heads) {
    return wrong(where, kKeyHeads,
                 "got " + std::to_string(c.kv_heads) + ", expected " + std::to_string(c.heads) +
                     ", the number of heads: only " + kNewer + " has groups of them");
  }
  return c;
}

Blueprint falcon_blueprint(const ModelConfig& c) {
  using Bias = LayerBuilder::Bias;
  const Bias bias = c.attention_bias ? Bias::kYes : Bias::kNo;
  const std::int64_t query = c.heads * c.head_size;
  const std::int64_t fused = query + 2 * c.kv_heads * c.head_size;
  const bool two_norms = c.parallel && !c.shared_norm;
  LayerBuilder layer(c);
  layer.layer_norm(two_norms ? "ln_attn" : "input_layernorm", Value::kResidual, Value::kNormed);
  if (two_norms) layer.layer_norm("ln_mlp", Value::kResidual, Value::kMlpNormed);
  layer.linear("self_attention.query_key_value", Value::kNormed, Value::kQueryKeyValue,
               {fused, c.hidden}, bias);
  // A single group is in the order of its parts.
  layer.op(c.kv_heads == 1 ? LayerOpKind::kSplit : LayerOpKind::kSplitGroups, Value::kQueryKeyValue,
           Value::kQuery);
  if (!c.alibi) {
    layer.op(LayerOpKind::kRotate, Value::kQuery, Value::kQuery);
    layer.op(LayerOpKind::kRotate, Value::kKey, Value::kKey);
  }
  layer.op(LayerOpKind::kAttention, Value::kQuery, Value::kAttended);
  layer.linear("self_attention.dense", Value::kAttended, Value::kBranch, {c.hidden, query}, bias);
  layer.op(LayerOpKind::kAddResidual, Value::kBranch, Value::kResidual);
  if (!c.parallel) layer.layer_norm("post_attention_layernorm", Value::kResidual, Value::kNormed);
  layer.linear("mlp.dense_h_to_4h", two_norms ? Value::kMlpNormed : Value::kNormed, Value::kUp,
               {c.intermediate, c.hidden}, bias);
  layer.op(LayerOpKind::kGelu, Value::kUp, Value::kActivated);
  layer.linear("mlp.dense_4h_to_h", Value::kActivated, Value::kBranch, {c.hidden, c.intermediate},
               bias);
  layer.op(LayerOpKind::kAddResidual, Value::kBranch, Value::kResidual);
  Blueprint blueprint = std::move(layer).finish();
  blueprint.layer_prefix = "transformer.h.";
  blueprint.embedding.name = "transformer.word_embeddings.weight";
  blueprint.final_norm.name = "transformer.ln_f.weight";
  blueprint.final_norm_bias = blueprint.final_norm;
  blueprint.final_norm_bias->name = "transformer.ln_f.bias";
  if (c.tied_embeddings) blueprint.head = blueprint.embedding;
  return blueprint;
}

}  // namespace

FamilyRow falcon_family() {
  FamilyRow row{.family = Family::kFalcon, .model_type = "falcon", .stem = "Falcon"};
  row.former_types = {"RefinedWeb", "RefinedWebModel"};
  ModelConfig& c = row.defaults;
  c.family = Family::kFalcon;
  c.vocabulary = 65024;
  c.hidden = 4544;
  c.intermediate = 0;
  c.heads = 71;
  c.kv_heads = 0;
  c.head_size = 0;
  c.norm_epsilon = 1e-5;
  c.parallel = true;
  c.tied_embeddings = true;
  c.bos_token = 11;
  c.eos_token = 11;
  row.heads_divide_hidden = true;
  row.keys = {.kv_heads = kKeyHeads,
              .intermediate = "ffn_hidden_size",
              .norm_epsilon = "layer_norm_epsilon"};
  row.integers = {{"n_embed", &ModelConfig::hidden}};
  row.flags = {{"bias", &ModelConfig::attention_bias},
               {"bias", &ModelConfig::mlp_bias},
               {"alibi", &ModelConfig::alibi},
               {kParallel, &ModelConfig::parallel}};
  row.only = {{"activation", "gelu", "other activations are not built yet"},
              {"hidden_dropout", 0.0, "dropout on the residual stream is not built yet"}};
  row.renamed = {{"n_head", "num_attention_heads"},
                 {"n_layer", "num_hidden_layers"},
                 {"n_head_kv", kKeyHeads}};
  row.resolve = resolve;
  row.resolved = {kNewer, kMultiQuery, kNorms};
  row.blueprint = falcon_blueprint;
  return row;
}

}  // namespace ftplan::models

#include "models/decoder.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/job.h"
#include "core/model_config.h"
#include "core/shape.h"
#include "models/family.h"

namespace ftplan::models {
namespace {

// Index of the last part of `self_attn.q_proj` among the linears of its family.
int index_of(const std::string& module, Family family) {
  const std::string name = module.substr(module.rfind('.') + 1);
  const std::vector<std::string>& names = linear_names(family);
  const auto found = std::find(names.begin(), names.end(), name);
  FTPLAN_CHECK(found != names.end());
  return static_cast<int>(found - names.begin());
}

}  // namespace

int LayerBuilder::add(Weight weight) {
  weights_.push_back(std::move(weight));
  return static_cast<int>(weights_.size()) - 1;
}

void LayerBuilder::norm(const std::string& name, std::int64_t width, Value in, Value out) {
  const int weight = add({name + ".weight", Shape{width}, WeightKind::kNorm});
  ops_.push_back({LayerOpKind::kNorm, in, out, weight});
}

void LayerBuilder::layer_norm(const std::string& name, Value in, Value out) {
  const Shape shape{config_.hidden};
  const int weight = add({name + ".weight", shape, WeightKind::kNorm});
  const int bias = add({name + ".bias", shape, WeightKind::kNorm});
  ops_.push_back({LayerOpKind::kLayerNorm, in, out, weight, bias});
}

void LayerBuilder::linear(const std::string& module, Value in, Value out, Shape shape, Bias bias) {
  const int index = index_of(module, config_.family);
  const int weight = add({module + ".weight", shape, WeightKind::kMatrix, index});
  const int bias_index =
      bias == Bias::kYes ? add({module + ".bias", Shape{shape[0]}, WeightKind::kBias, index}) : -1;
  ops_.push_back({LayerOpKind::kLinear, in, out, weight, bias_index});
}

void LayerBuilder::experts(const std::string& name, Value in, Value out) {
  const Shape wide{config_.intermediate, config_.hidden};
  const Shape back{config_.hidden, config_.intermediate};
  const int router =
      add({name + ".gate.weight", {config_.experts, config_.hidden}, WeightKind::kExpert});
  for (const auto& [matrix, shape] :
       {std::pair{"w1", wide}, std::pair{"w3", wide}, std::pair{"w2", back}}) {
    for (std::int64_t e = 0; e < config_.experts; ++e) {
      add({name + ".experts." + std::to_string(e) + "." + matrix + ".weight", shape,
           WeightKind::kExpert});
    }
  }
  ops_.push_back({LayerOpKind::kExperts, in, out, router});
}

Blueprint LayerBuilder::finish() && {
  Blueprint blueprint;
  blueprint.layer = std::move(weights_);
  blueprint.layer_ops = std::move(ops_);
  const Shape table{config_.vocabulary, config_.hidden};
  blueprint.embedding = {"model.embed_tokens.weight", table, WeightKind::kEmbedding};
  blueprint.final_norm = {"model.norm.weight", Shape{config_.hidden}, WeightKind::kNorm};
  blueprint.head =
      config_.tied_embeddings ? blueprint.embedding : Weight{kUntiedHead, table, WeightKind::kHead};
  return blueprint;
}

Blueprint decoder_blueprint(const ModelConfig& config) { return decoder_blueprint(config, {}); }

void add_attention(LayerBuilder& layer, const ModelConfig& c, const DecoderOptions& options) {
  using Bias = LayerBuilder::Bias;
  const std::int64_t query = c.heads * c.head_size;
  const std::int64_t key = c.kv_heads * c.head_size;
  const Bias attention = c.attention_bias ? Bias::kYes : Bias::kNo;
  const Bias output = options.output_bias ? attention : Bias::kNo;
  layer.norm("input_layernorm", c.hidden, Value::kResidual, Value::kNormed);
  layer.linear("self_attn.q_proj", Value::kNormed, Value::kQuery, {query, c.hidden}, attention);
  layer.linear("self_attn.k_proj", Value::kNormed, Value::kKey, {key, c.hidden}, attention);
  layer.linear("self_attn.v_proj", Value::kNormed, Value::kValue, {key, c.hidden}, attention);
  if (options.head_norms) {
    layer.norm("self_attn.q_norm", c.head_size, Value::kQuery, Value::kQuery);
    layer.norm("self_attn.k_norm", c.head_size, Value::kKey, Value::kKey);
  }
  layer.op(LayerOpKind::kRotate, Value::kQuery, Value::kQuery);
  layer.op(LayerOpKind::kRotate, Value::kKey, Value::kKey);
  layer.op(LayerOpKind::kAttention, Value::kQuery, Value::kAttended);
  layer.linear("self_attn.o_proj", Value::kAttended, Value::kBranch, {c.hidden, query}, output);
  layer.op(LayerOpKind::kAddResidual, Value::kBranch, Value::kResidual);
}

Blueprint decoder_blueprint(const ModelConfig& c, const DecoderOptions& options) {
  using Bias = LayerBuilder::Bias;
  const Bias mlp = c.mlp_bias ? Bias::kYes : Bias::kNo;
  LayerBuilder layer(c);
  add_attention(layer, c, options);
  layer.norm("post_attention_layernorm", c.hidden, Value::kResidual, Value::kNormed);
  layer.linear("mlp.gate_proj", Value::kNormed, Value::kGate, {c.intermediate, c.hidden}, mlp);
  layer.linear("mlp.up_proj", Value::kNormed, Value::kUp, {c.intermediate, c.hidden}, mlp);
  layer.op(LayerOpKind::kGatedSilu, Value::kGate, Value::kActivated);
  layer.linear("mlp.down_proj", Value::kActivated, Value::kBranch, {c.hidden, c.intermediate}, mlp);
  layer.op(LayerOpKind::kAddResidual, Value::kBranch, Value::kResidual);
  return std::move(layer).finish();
}

}  // namespace ftplan::models

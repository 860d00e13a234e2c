#include "models/llama.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/job.h"
#include "core/model_config.h"
#include "core/shape.h"
#include "models/family.h"

namespace ftplan::models {
namespace {

// Collects weights and ops of one layer; returns the index of each added weight.
struct LayerBuilder {
  std::vector<Weight> weights;
  std::vector<LayerOp> ops;

  int add(Weight weight) {
    weights.push_back(std::move(weight));
    return static_cast<int>(weights.size()) - 1;
  }

  void norm(const std::string& name, std::int64_t width) {
    const int weight = add({name + ".weight", Shape{width}, WeightKind::kNorm});
    ops.push_back({LayerOpKind::kNorm, Value::kResidual, Value::kNormed, weight});
  }

  void linear(int index, const std::string& block, Value in, Value out, Shape shape, bool bias) {
    const std::string name = block + "." + kLinearNames[index];
    const int weight = add({name + ".weight", shape, WeightKind::kMatrix, index});
    const int bias_index =
        bias ? add({name + ".bias", Shape{shape[0]}, WeightKind::kBias, index}) : -1;
    ops.push_back({LayerOpKind::kLinear, in, out, weight, bias_index});
  }

  void op(LayerOpKind kind, Value in, Value out) { ops.push_back({kind, in, out}); }
};

}  // namespace

Blueprint llama_blueprint(const ModelConfig& c) {
  const std::int64_t query = c.heads * c.head_size;
  const std::int64_t key = c.kv_heads * c.head_size;
  LayerBuilder layer;
  layer.norm("input_layernorm", c.hidden);
  const std::string attention = "self_attn";
  layer.linear(0, attention, Value::kNormed, Value::kQuery, {query, c.hidden}, c.attention_bias);
  layer.linear(1, attention, Value::kNormed, Value::kKey, {key, c.hidden}, c.attention_bias);
  layer.linear(2, attention, Value::kNormed, Value::kValue, {key, c.hidden}, c.attention_bias);
  layer.op(LayerOpKind::kRotate, Value::kQuery, Value::kQuery);
  layer.op(LayerOpKind::kRotate, Value::kKey, Value::kKey);
  layer.op(LayerOpKind::kAttention, Value::kQuery, Value::kAttended);
  layer.linear(3, attention, Value::kAttended, Value::kBranch, {c.hidden, query}, c.attention_bias);
  layer.op(LayerOpKind::kAddResidual, Value::kBranch, Value::kResidual);
  layer.norm("post_attention_layernorm", c.hidden);
  layer.linear(4, "mlp", Value::kNormed, Value::kGate, {c.intermediate, c.hidden}, c.mlp_bias);
  layer.linear(5, "mlp", Value::kNormed, Value::kUp, {c.intermediate, c.hidden}, c.mlp_bias);
  layer.op(LayerOpKind::kGatedSilu, Value::kGate, Value::kActivated);
  layer.linear(6, "mlp", Value::kActivated, Value::kBranch, {c.hidden, c.intermediate}, c.mlp_bias);
  layer.op(LayerOpKind::kAddResidual, Value::kBranch, Value::kResidual);

  Blueprint blueprint;
  blueprint.layer = std::move(layer.weights);
  blueprint.layer_ops = std::move(layer.ops);
  blueprint.embedding = {
      "model.embed_tokens.weight", {c.vocabulary, c.hidden}, WeightKind::kEmbedding};
  blueprint.final_norm = {"model.norm.weight", Shape{c.hidden}, WeightKind::kNorm};
  blueprint.head = c.tied_embeddings
                       ? blueprint.embedding
                       : Weight{"lm_head.weight", {c.vocabulary, c.hidden}, WeightKind::kHead};
  return blueprint;
}

}  // namespace ftplan::models

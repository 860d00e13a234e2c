#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/model_config.h"
#include "core/shape.h"

/// A family is a table of named weights and a list of layer ops. Everything else about a model is
/// read from these.
namespace ftplan::models {

/// The head of every family where it is a tensor of its own.
inline constexpr const char* kUntiedHead = "lm_head.weight";

/// What a weight is for. Linears carry their index in `linear_names`.
/// `kExpert`: a router, or a matrix of one of its experts.
enum class WeightKind : std::uint8_t { kEmbedding, kNorm, kMatrix, kBias, kHead, kExpert };

/// One tensor of a checkpoint. In `Blueprint::layer` the name lacks the layer's, see
/// `layer_prefix`.
struct Weight {
  std::string name;
  Shape shape;
  WeightKind kind = WeightKind::kMatrix;
  int linear = -1;  ///< index in `linear_names` for matrices and biases of a layer
};

/// Values inside one decoder layer. `kResidual` enters and leaves it.
enum class Value : std::uint8_t {
  kResidual,
  kNormed,
  kQuery,
  kKey,
  kValue,
  kAttended,
  kBranch,
  kGate,
  kUp,
  kActivated,
  kQueryKeyValue,  ///< kQuery, kKey and kValue side by side
  kGateUp,         ///< kGate and kUp side by side
  kMlpNormed,      ///< beside kNormed, where attention and MLP are parallel
};
inline constexpr int kValues = 13;

enum class LayerOpKind : std::uint8_t {
  kNorm,         ///< out = RMSNorm(in) with `weight`; each head alone where that is as wide
  kLayerNorm,    ///< out = LayerNorm(in) with `weight` and `bias`
  kLinear,       ///< out = in * weight^T (+ bias)
  kSplit,        ///< names the parts of `in`, see `parts_of`
  kSplitGroups,  ///< the same where each key head stands behind the query heads that share it
  kRotate,       ///< in-place rotary embedding of `in`
  kAttention,    ///< kAttended from kQuery, kKey, kValue
  kGatedSilu,    ///< out = silu(kGate) * kUp
  kGatedGelu,    ///< out = gelu(kGate) * kUp, gelu by tanh
  kGelu,         ///< out = gelu(in), exact
  kExperts,  ///< out = experts(in): `weight` is the router's, the experts' follow: w1 of all, w3,
             ///< w2
  kAddResidual,  ///< kResidual += in
};

/// One step of a decoder layer; `weight` and `bias` index `Blueprint::layer`, -1 for none.
struct LayerOp {
  LayerOpKind kind;
  Value in;
  Value out;
  int weight = -1;
  int bias = -1;
};

/// The whole model as tables: embedding, `config.layers` equal layers, final norm, head.
struct Blueprint {
  std::vector<Weight> layer;
  std::vector<LayerOp> layer_ops;
  std::string layer_prefix = "model.layers.";  ///< before the layer's number
  Weight embedding;
  Weight final_norm;
  std::optional<Weight> final_norm_bias;  ///< of a LayerNorm
  double norm_offset = 0;                 ///< norms multiply by it plus their weight
  double embedding_scale = 1;             ///< of the rows of the embedding, rounded to their type
  Weight head;                            ///< the embedding's name when `config.tied_embeddings`

  /// Width of `value` in one token.
  std::int64_t width(Value value, const ModelConfig& config) const;
};

/// What stands side by side in a fused value, in order; nothing for others.
std::vector<Value> parts_of(Value value);

/// Total on every config that `read_config` accepts.
Blueprint make_blueprint(const ModelConfig& config);

/// `model.layers.17.self_attn.q_proj.weight`
std::string layer_weight_name(const Blueprint& blueprint, const Weight& weight, std::int64_t layer);

/// All tensors with their full names, embedding first, head last; the tied head is left out.
std::vector<Weight> all_weights(const Blueprint& blueprint, const ModelConfig& config);

/// Parameters of all tensors, a tied head counted once.
std::int64_t count_parameters(const ModelConfig& config);

/// The model with `rows` in embedding and head, of which its files hold those that it has now.
/// @pre `rows` is at least `config.vocabulary`
ModelConfig with_vocabulary(ModelConfig config, std::int64_t rows);

/// The model as its files hold it, without the rows of new tokens.
ModelConfig as_stored(ModelConfig config);

/// Digest of names and shapes of all tensors in the files and of how they are stored.
std::string weight_table_digest(const ModelConfig& config);

}  // namespace ftplan::models

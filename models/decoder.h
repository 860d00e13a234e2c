#pragma once

#include <string>
#include <vector>

#include "core/model_config.h"
#include "core/shape.h"
#include "models/family.h"

/// What the files of families share: a builder of layers, and the decoder of Llama and its kin.
namespace ftplan::models {

/// Collects weights and ops of one layer.
class LayerBuilder {
 public:
  explicit LayerBuilder(const ModelConfig& config) : config_(config) {}

  enum class Bias { kNo, kYes };

  /// `out = norm(in)` with the weight `name.weight` of `width` values.
  void norm(const std::string& name, std::int64_t width, Value in, Value out);
  /// `out = layer_norm(in)` with `name.weight` and `name.bias`, as wide as the residual stream.
  void layer_norm(const std::string& name, Value in, Value out);
  /// `out = in * weight^T (+ bias)`; `module` ends with one of `linear_names`.
  void linear(const std::string& module, Value in, Value out, Shape shape, Bias bias = Bias::kNo);
  /// A router `name.gate` and `config.experts` gated MLPs with silu, `name.experts.E.w1` (gate),
  /// `w3` (up) and `w2` (down), of which each token takes a few.
  void experts(const std::string& name, Value in, Value out);
  void op(LayerOpKind kind, Value in, Value out) { ops_.push_back({kind, in, out}); }

  /// The layer between an embedding, a final norm and a head with their usual names.
  [[nodiscard]] Blueprint finish() &&;

 private:
  int add(Weight weight);

  const ModelConfig& config_;
  std::vector<Weight> weights_;
  std::vector<LayerOp> ops_;
};

/// RMSNorm, rotary attention with grouped keys and values, and a gated MLP, each added to the
/// residual stream. Biases are those of `config`.
Blueprint decoder_blueprint(const ModelConfig& config);

/// What the decoders of Llama's kin differ in.
struct DecoderOptions {
  bool output_bias = true;  ///< `o_proj` has a bias where q, k and v have one
  bool head_norms = false;  ///< each head of queries and keys is normed before it is rotated
};
Blueprint decoder_blueprint(const ModelConfig& config, const DecoderOptions& options);

/// The first half of that layer: norm and attention, added to the residual stream.
void add_attention(LayerBuilder& layer, const ModelConfig& config, const DecoderOptions& options);

}  // namespace ftplan::models

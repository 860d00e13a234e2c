#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/enums.h"
#include "core/fields.h"

namespace ftplan {

enum class Family : std::uint8_t {
  kLlama,
  kMistral,
  kQwen2,
  kQwen3,
  kPhi3,
  kGemma2,
  kFalcon,
  kMixtral
};
template <>
inline constexpr auto names<Family> =
    std::array{Name{Family::kLlama, "llama"},   Name{Family::kMistral, "mistral"},
               Name{Family::kQwen2, "qwen2"},   Name{Family::kQwen3, "qwen3"},
               Name{Family::kPhi3, "phi3"},     Name{Family::kGemma2, "gemma2"},
               Name{Family::kFalcon, "falcon"}, Name{Family::kMixtral, "mixtral"}};

/// How rotary frequencies are stretched beyond the positions of pre-training.
/// @source transformers 5.23 `modeling_rope_utils.py`
enum class RopeScaling : std::uint8_t { kNone, kLinear, kLlama3, kDynamic, kYarn, kLongrope };
template <>
inline constexpr auto names<RopeScaling> =
    std::array{Name{RopeScaling::kNone, "none"},     Name{RopeScaling::kLinear, "linear"},
               Name{RopeScaling::kLlama3, "llama3"}, Name{RopeScaling::kDynamic, "dynamic"},
               Name{RopeScaling::kYarn, "yarn"},     Name{RopeScaling::kLongrope, "longrope"}};

/// How the files hold the linears of the layers: in the element type of the other weights, or as
/// codes of bitsandbytes, NF4 with or without double quantization or LLM.int8.
enum class StoredLinears : std::uint8_t { kPlain, kNf4, kNf4Double, kInt8 };
template <>
inline constexpr auto names<StoredLinears> =
    std::array{Name{StoredLinears::kPlain, "plain"}, Name{StoredLinears::kNf4, "nf4"},
               Name{StoredLinears::kNf4Double, "nf4-double"}, Name{StoredLinears::kInt8, "int8"}};

/// The resolved shape of a model: what `config.json` says, with every default of its family filled
/// in.
/// @source transformers 5.23 `models/llama/configuration_llama.py`, whose defaults these are
struct ModelConfig {
  std::string name;
  Family family = Family::kLlama;
  std::int64_t vocabulary = 32000;
  std::int64_t stored_vocabulary = 0;  ///< rows in the files where new tokens made it grow; else 0
  std::int64_t hidden = 4096;
  std::int64_t intermediate = 11008;
  std::int64_t layers = 32;
  std::int64_t heads = 32;
  std::int64_t kv_heads = 32;
  std::int64_t head_size = 128;
  std::int64_t positions = 2048;  ///< of the longest sequence, with the scaling rule
  std::int64_t window = 0;        ///< keys that a query sees, itself included; 0: all before it
  std::int64_t window_first = 0;  ///< the first layer that has the window
  std::int64_t window_every = 1;  ///< and then every so many
  double query_scale = 0;    ///< scores are divided by its square root; 0: by that of head_size
  double attention_cap = 0;  ///< scores become cap * tanh(score / cap); 0: they stay
  double logit_cap = 0;      ///< the same for the head's logits
  double norm_epsilon = 1e-6;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling = RopeScaling::kNone;
  double rope_factor = 1.0;
  double rope_low_frequency_factor = 1.0;
  double rope_high_frequency_factor = 4.0;
  std::int64_t rope_original_positions = 8192;
  double rope_attention_factor = 1.0;  ///< cosines and sines are multiplied by it
  double rope_fast_turns = 32.0;       ///< within the original positions
  double rope_slow_turns = 1.0;
  bool rope_truncated = true;
  std::vector<double> rope_short_factors;  ///< of wavelengths, one for each frequency
  std::vector<double> rope_long_factors;
  std::int64_t rotary_size = 0;  ///< leading values of a head that are rotated; 0: all
  bool tied_embeddings = false;
  bool attention_bias = false;
  bool mlp_bias = false;
  bool alibi = false;        ///< scores grow with a key's position; nothing is rotated
  bool parallel = false;     ///< attention and MLP read the same residual stream
  bool shared_norm = false;  ///< and, when parallel, the same norm of it
  std::int64_t experts = 0;  ///< that stand for the MLP; 0: there is one MLP
  std::int64_t experts_per_token = 0;
  DType stored = DType::kBf16;
  StoredLinears stored_linears = StoredLinears::kPlain;
  std::int64_t bos_token = 1;
  std::int64_t eos_token = 2;

  [[nodiscard]] bool has_window(std::int64_t layer) const {
    return window > 0 && layer >= window_first && (layer - window_first) % window_every == 0;
  }
  [[nodiscard]] std::int64_t rotated_size() const {
    return rotary_size > 0 ? rotary_size : head_size;
  }
  /// Whether the frequencies depend on the longest document of a micro-batch, which has up to
  /// `longest` tokens.
  [[nodiscard]] bool rope_follows_length(std::int64_t longest) const {
    return (rope_scaling == RopeScaling::kDynamic || rope_scaling == RopeScaling::kLongrope) &&
           longest > rope_original_positions;
  }
  /// Tokens up to which the first of two sets of frequencies serves; 0: there is one set.
  [[nodiscard]] std::int64_t rope_switch() const {
    return rope_scaling == RopeScaling::kLongrope ? rope_original_positions : 0;
  }
  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

template <>
inline constexpr auto fields<ModelConfig> = std::tuple{
    Field{"name", &ModelConfig::name, "Preset or folder name, for people."},
    Field{"family", &ModelConfig::family, "Architecture family."},
    Field{"vocabulary", &ModelConfig::vocabulary, "tokens", Range{1, 1 << 24},
          "Rows of the embedding."},
    Field{"stored_vocabulary", &ModelConfig::stored_vocabulary, "tokens", Range{0, 1 << 24},
          "Rows of it in the files, where new tokens made it grow; 0: as many."},
    Field{"hidden", &ModelConfig::hidden, "values", Range{1, 1 << 20},
          "Width of the residual stream."},
    Field{"intermediate", &ModelConfig::intermediate, "values", Range{1, 1 << 22},
          "Width inside the MLP."},
    Field{"layers", &ModelConfig::layers, "layers", Range{1, 1 << 12}, "Decoder layers."},
    Field{"heads", &ModelConfig::heads, "heads", Range{1, 1 << 12}, "Query heads."},
    Field{"kv_heads", &ModelConfig::kv_heads, "heads", Range{1, 1 << 12}, "Key and value heads."},
    Field{"head_size", &ModelConfig::head_size, "values", Range{2, 1 << 12}, "Width of one head."},
    Field{"positions", &ModelConfig::positions, "tokens", Range{1, 1 << 24}, "Longest sequence."},
    Field{"window", &ModelConfig::window, "tokens", Range{0, 1 << 24},
          "Keys that a query sees, 0 for all before it."},
    Field{"window_first", &ModelConfig::window_first, "", Range{0, 1 << 12},
          "First layer that has the window."},
    Field{"window_every", &ModelConfig::window_every, "layers", Range{1, 1 << 12},
          "Layers from one that has the window to the next."},
    Field{"query_scale", &ModelConfig::query_scale, "", Range{0, 1e6},
          "Scores are divided by its square root, 0 for head_size."},
    Field{"attention_cap", &ModelConfig::attention_cap, "", Range{0, 1e6},
          "Soft cap of attention scores, 0 for none."},
    Field{"logit_cap", &ModelConfig::logit_cap, "", Range{0, 1e6},
          "Soft cap of the head's logits, 0 for none."},
    Field{"norm_epsilon", &ModelConfig::norm_epsilon, "", Range{0, 1}, "Epsilon of the norms."},
    Field{"rope_theta", &ModelConfig::rope_theta, "", Range{1, 1e12}, "Rotary base."},
    Field{"rope_scaling", &ModelConfig::rope_scaling, "Rotary scaling rule."},
    Field{"rope_factor", &ModelConfig::rope_factor, "", Range{1, 1e6},
          "Factor of the scaling rule."},
    Field{"rope_low_frequency_factor", &ModelConfig::rope_low_frequency_factor, "",
          Range{1e-6, 1e6}, "llama3 rule: below it wavelengths are scaled fully."},
    Field{"rope_high_frequency_factor", &ModelConfig::rope_high_frequency_factor, "",
          Range{1e-6, 1e6}, "llama3 rule: above it wavelengths stay."},
    Field{"rope_original_positions", &ModelConfig::rope_original_positions, "tokens",
          Range{1, 1 << 24}, "Positions of pre-training, for the rules that use them."},
    Field{"rope_attention_factor", &ModelConfig::rope_attention_factor, "", Range{1e-6, 1e6},
          "Cosines and sines are multiplied by it."},
    Field{"rope_fast_turns", &ModelConfig::rope_fast_turns, "", Range{1e-6, 1e9},
          "yarn rule: what turns more often within the original positions stays."},
    Field{"rope_slow_turns", &ModelConfig::rope_slow_turns, "", Range{1e-6, 1e9},
          "yarn rule: what turns less often is scaled fully."},
    Field{"rope_truncated", &ModelConfig::rope_truncated,
          "yarn rule: the range between is widened to whole frequencies."},
    Field{"rope_short_factors", &ModelConfig::rope_short_factors, "", Range{1e-6, 1e9},
          "longrope rule: of wavelengths, up to the original positions."},
    Field{"rope_long_factors", &ModelConfig::rope_long_factors, "", Range{1e-6, 1e9},
          "longrope rule: of wavelengths, beyond the original positions."},
    Field{"rotary_size", &ModelConfig::rotary_size, "values", Range{0, 1 << 12},
          "Leading values of a head that are rotated, 0 for all."},
    Field{"tied_embeddings", &ModelConfig::tied_embeddings, "The head is the embedding."},
    Field{"attention_bias", &ModelConfig::attention_bias, "Biases in the attention."},
    Field{"mlp_bias", &ModelConfig::mlp_bias, "Biases in the MLP."},
    Field{"alibi", &ModelConfig::alibi, "Linear biases of scores in place of rotation."},
    Field{"parallel", &ModelConfig::parallel, "Attention and MLP read the same residual stream."},
    Field{"shared_norm", &ModelConfig::shared_norm, "And the same norm of it."},
    Field{"experts", &ModelConfig::experts, "experts", Range{0, 1 << 10},
          "Experts that stand for the MLP, 0 for one MLP."},
    Field{"experts_per_token", &ModelConfig::experts_per_token, "experts", Range{0, 1 << 10},
          "Experts that each token is sent to."},
    Field{"stored", &ModelConfig::stored, "Element type in the files."},
    Field{"stored_linears", &ModelConfig::stored_linears,
          "How the files hold the linears of the layers."},
    Field{"bos_token", &ModelConfig::bos_token, "", Range{-1, 1 << 24},
          "Begin-of-sequence id, -1 if none."},
    Field{"eos_token", &ModelConfig::eos_token, "", Range{-1, 1 << 24},
          "End-of-sequence id, -1 if none."}};

}  // namespace ftplan

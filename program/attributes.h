#pragma once

#include <array>
#include <cstdint>
#include <variant>
#include <vector>

#include "core/model_config.h"

/// What an instruction knows at compile time beside its operands, one struct per kind of op.
namespace ftplan::program {

struct NormAttributes {
  double epsilon = 1e-6;
  double offset = 0;  ///< what the weight is added to
};

/// Rows of the table are multiplied by `scale`.
struct EmbedAttributes {
  double scale = 1;
};

/// The product is multiplied by `scale`.
struct LinearAttributes {
  double scale = 1;
};

struct RotateAttributes {
  std::int64_t heads = 0;
  std::int64_t head_size = 0;
  std::int64_t rotated = 0;  ///< leading values of each head that turn
  bool inverse = false;      ///< rotates back: the gradient
};

/// How many groups of heads a fused value has.
struct GroupAttributes {
  std::int64_t groups = 1;
};

struct AttentionAttributes {
  std::int64_t rows = 0;      ///< sequences
  std::int64_t sequence = 0;  ///< query tokens of each
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_size = 0;
  std::int64_t cache =
      0;  ///< capacity of the key and value cache; 0: keys and values are those of the queries
  std::int64_t window = 0;  ///< keys that a query sees, itself included; 0: all before it
  std::int64_t window_first = 0, window_every = 1;  ///< the layers that have it, as in ModelConfig
  double scale = 0;                                 ///< of scores; 0: 1 / sqrt(head_size)
  double cap = 0;                                   ///< scores become cap * tanh(score / cap)
  double alibi = 0;     ///< the slopes of biases are multiplied by it; 0: there are none
  double windowed = 1;  ///< their share of all layers, for FLOPs

  [[nodiscard]] std::int64_t window_of(std::int64_t layer) const {
    return layer >= window_first && (layer - window_first) % window_every == 0 ? window : 0;
  }
};

struct LossAttributes {
  std::int64_t chunk = 0;    ///< tokens whose logits exist at one time
  double cap = 0;            ///< logits become cap * tanh(logit / cap); 0: they stay
  double adapter_scale = 0;  ///< of the head's adapter; 0: there is none
};

/// `site` tells the places of a layer apart that drop independently.
struct DropoutAttributes {
  double probability = 0;
  std::int64_t site = 0;
};

struct AdamwAttributes {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  std::int64_t padding = 0;  ///< trailing elements that 8-bit states leave alone
};

struct SgdAttributes {
  double momentum = 0;
  double weight_decay = 0;
};

struct ClipAttributes {
  double limit = 0;  ///< 0: never clips
};

/// A collective over all ranks.
struct CollectiveAttributes {
  std::int64_t ranks = 1;
  std::int64_t rank = 0;
};

/// The other side of a transfer.
struct PeerAttributes {
  std::int64_t rank = 0;
};

/// How rotary frequencies come about, see ModelConfig.
struct RopeAttributes {
  std::int64_t size = 0;  ///< values of a head that are rotated
  double theta = 10000;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1;
  double low_frequency_factor = 1;
  double high_frequency_factor = 4;
  std::int64_t original_positions = 8192;
  double attention_factor = 1;
  double fast_turns = 32;
  double slow_turns = 1;
  bool truncated = true;
  std::vector<double> short_factors, long_factors;
};

/// Where the values of a storage come from or go to.
struct FileAttributes {
  std::int64_t binding = 0;  ///< index in `weights` or `adapters`
  bool quantized = false;    ///< the file has it so already
  std::int64_t begin = 0;    ///< first element, where a part of the tensor is loaded
  bool adapter = false;      ///< what is stored is one of `adapters`
};

/// What an eager operation is, see `ops/eager.h`.
enum class EagerKind : std::uint8_t {
  kEmbedding,  ///< ids, table -> rows
  kLinear,     ///< x, w, bias -> y
  kMatmul,     ///< a, b -> product
  kAdd,        ///< a, b -> sum
  kMul,        ///< a, b -> product by element, b broadcast
  kScale,      ///< x -> x with a constant applied
  kTo,         ///< x -> x in another type or place
  kRowScale,   ///< x -> rsqrt(mean(x^2) + eps)
  kSilu,
  kRotateHalf,
  kRotaryTables,  ///< positions -> cos, sin
  kRepeatHeads,   ///< keys or values -> one copy for each query head
  kSoftmax,
  kSdpa,     ///< q, k, v -> o, log-sum
  kDropout,  ///< x -> y, mask
  kContiguous,
  kLogSoftmax,
  kNllLoss,  ///< log-probabilities, targets -> total weight; the backward begins here
};

constexpr std::uint8_t saved_in(int i) {
  return static_cast<std::uint8_t>(1U << static_cast<unsigned>(i));
}
constexpr std::uint8_t saved_out(int i) {
  return static_cast<std::uint8_t>(16U << static_cast<unsigned>(i));
}

struct EagerAttributes {
  EagerKind kind = EagerKind::kTo;
  /// By input: what its gradient needs, a sum of `saved_in` and `saved_out`.
  std::array<std::uint8_t, 3> saves{};
  std::int64_t inner = 0;  ///< products: terms of one element of the result
};

/// See `models/int8.h`.
struct Int8Attributes {
  double threshold = 6;  ///< inputs of at least this magnitude are outliers
};

struct NextTokenAttributes {
  double cap = 0;  ///< as that of the loss
};

using Attributes =
    std::variant<NormAttributes, EmbedAttributes, LinearAttributes, RotateAttributes,
                 GroupAttributes, AttentionAttributes, LossAttributes, DropoutAttributes,
                 AdamwAttributes, SgdAttributes, ClipAttributes, CollectiveAttributes,
                 PeerAttributes, RopeAttributes, FileAttributes, EagerAttributes,
                 NextTokenAttributes, Int8Attributes>;

}  // namespace ftplan::program

#include "models/config_reader.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "models/config_field.h"
#include "models/config_rope.h"
#include "models/files.h"

namespace ftplan::models {
namespace {

// transformers' name and ftplan's member for the keys that are nothing but a value.
struct IntegerKey {
  const char* key;
  std::int64_t ModelConfig::* member;
};
constexpr std::array kIntegerKeys = {
    IntegerKey{"vocab_size", &ModelConfig::vocabulary},
    IntegerKey{"hidden_size", &ModelConfig::hidden},
    IntegerKey{"intermediate_size", &ModelConfig::intermediate},
    IntegerKey{"num_hidden_layers", &ModelConfig::layers},
    IntegerKey{"num_attention_heads", &ModelConfig::heads},
    IntegerKey{"max_position_embeddings", &ModelConfig::positions},
};

struct FlagKey {
  const char* key;
  bool ModelConfig::* member;
};
constexpr std::array kFlagKeys = {
    FlagKey{"tie_word_embeddings", &ModelConfig::tied_embeddings},
    FlagKey{"attention_bias", &ModelConfig::attention_bias},
    FlagKey{"mlp_bias", &ModelConfig::mlp_bias},
};

struct DTypeName {
  const char* name;
  DType dtype;
};
constexpr std::array kDTypeNames = {DTypeName{"float32", DType::kF32},
                                    DTypeName{"bfloat16", DType::kBf16},
                                    DTypeName{"float16", DType::kF16}};

// Reads key after key into a configuration; the first error stays and ends the rest.
class Reader {
 public:
  Reader(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    // ModelConfig's defaults are those of transformers' LlamaConfig, but for the element type.
    reading_.config.stored = DType::kF32;
  }

  Result<ConfigReading> read() {
    check_architecture();
    check_what_is_not_built();
    for (const IntegerKey& key : kIntegerKeys) read_key(key.key, key.member);
    read_key("rms_norm_eps", &ModelConfig::norm_epsilon);
    for (const FlagKey& key : kFlagKeys) read_key(key.key, key.member);
    read_heads();
    read_token("bos_token_id", &ModelConfig::bos_token);
    read_token("eos_token_id", &ModelConfig::eos_token);
    read_dtype();
    if (error_) return *error_;
    auto config = with_rope(std::move(reading_.config), json_, where_);
    if (!config) return config.error();
    reading_.config = *std::move(config);
    return std::move(reading_);
  }

 private:
  [[nodiscard]] std::string place(const char* key) const { return json_detail::child(where_, key); }

  void fail(const char* key, const std::string& message) {
    if (!error_) error_ = bad_input(place(key), message);
  }

  template <class T>
  void read_key(const char* key, T ModelConfig::* member) {
    if (error_ || !json_.contains(key)) return;
    auto value = read_field(json_, where_, key, member);
    if (value) {
      reading_.config.*member = *std::move(value);
    } else {
      error_ = value.error();
    }
  }

  void check_architecture() {
    if (!json_.contains("model_type")) {
      return fail("model_type",
                  "missing: expected a Hugging Face config.json with model_type \"llama\"");
    }
    const auto type =
        read_value<std::string>(json_["model_type"], place("model_type"), Missing::kKeepDefault);
    if (!type) {
      error_ = type.error();
    } else if (*type != "llama") {
      fail("model_type",
           in_quotes(*type) +
               " is not built yet: ftplan knows the Llama family (model_type \"llama\": "
               "Llama 1 to 3, TinyLlama and others of their shape)");
    }
    if (!error_ && is_set(json_, "architectures")) check_architectures();
  }

  void check_architectures() {
    const auto list = read_value<std::vector<std::string>>(
        json_["architectures"], place("architectures"), Missing::kKeepDefault);
    if (!list) {
      error_ = list.error();
      return;
    }
    // A LlamaModel is the same without its head, which a tied head does not need.
    const bool known =
        list->empty() || std::any_of(list->begin(), list->end(), [](const auto& name) {
          return name == "LlamaForCausalLM" || name == "LlamaModel";
        });
    if (!known) {
      fail("architectures",
           in_quotes(list->front()) +
               " is not built yet: ftplan trains language models (LlamaForCausalLM)");
    }
  }

  // A key whose value must be the one that ftplan computes with.
  template <class T>
  void expect(const char* key, const T& only, const std::string& reason) {
    if (error_ || !is_set(json_, key)) return;
    const auto value = read_value<T>(json_[key], place(key), Missing::kKeepDefault);
    if (!value) {
      error_ = value.error();
    } else if (*value != only) {
      fail(key, "got " + json_detail::got(json_[key]) + ", expected " +
                    json_detail::got(Json(only)) + ": " + reason);
    }
  }

  void check_what_is_not_built() {
    expect<std::string>("hidden_act", "silu", "other activations are not built yet");
    expect<std::int64_t>(
        "pretraining_tp", 1,
        "linears cut for tensor parallel pre-training are not built; the weights are the "
        "same, so 1 gives the same model");
    expect<double>("attention_dropout", 0, "dropout inside the attention is not built yet");
    if (is_set(json_, "quantization_config")) {
      fail("quantization_config",
           "quantized checkpoints are not read: give the 16-bit model, ftplan quantizes it itself "
           "with "
           "--method qlora or int8-lora");
    }
    if (is_set(json_, "per_layer_config") && !json_["per_layer_config"].empty()) {
      fail("per_layer_config", "layers that differ are not built yet: expected none");
    }
  }

  void read_heads() {
    if (error_) return;
    ModelConfig& config = reading_.config;
    config.kv_heads = config.heads;
    if (is_set(json_, "num_key_value_heads"))
      read_key("num_key_value_heads", &ModelConfig::kv_heads);
    if (error_) return;
    if (config.hidden % config.heads != 0) {
      return fail("num_attention_heads", "got " + std::to_string(config.heads) +
                                             ", expected a divisor of hidden_size, which is " +
                                             std::to_string(config.hidden));
    }
    if (config.heads % config.kv_heads != 0) {
      return fail("num_key_value_heads",
                  "got " + std::to_string(config.kv_heads) +
                      ", expected a divisor of num_attention_heads, which is " +
                      std::to_string(config.heads));
    }
    config.head_size = config.hidden / config.heads;
    if (is_set(json_, "head_dim")) read_key("head_dim", &ModelConfig::head_size);
    if (!error_ && config.head_size % 2 != 0) {
      fail("head_dim",
           "got " + std::to_string(config.head_size) +
               (is_set(json_, "head_dim") ? "" : " (hidden_size / num_attention_heads)") +
               ", expected an even number: rotary embedding turns pairs of values");
    }
  }

  void read_token(const char* key, std::int64_t ModelConfig::* member) {
    if (error_ || !json_.contains(key)) return;
    if (json_[key].is_null()) {
      reading_.config.*member = -1;
      return;
    }
    if (!json_[key].is_array()) return read_key(key, member);
    const auto ids = read_value<std::vector<std::int64_t>>(json_[key], place(key),
                                                           Missing::kKeepDefault, {0, 1 << 24});
    if (!ids) {
      error_ = ids.error();
    } else if (ids->empty()) {
      fail(key, "got an empty list, expected a token id");
    } else {
      reading_.config.*member = ids->front();
      if (ids->size() > 1) {
        reading_.notes.push_back(std::string(key) + " lists " + std::to_string(ids->size()) +
                                 " tokens: ftplan uses the first, " + std::to_string(ids->front()));
      }
    }
  }

  void read_dtype() {
    // `torch_dtype` is the name of older versions; `dtype` wins where both are there.
    const char* key = is_set(json_, "dtype") ? "dtype" : "torch_dtype";
    if (error_ || !is_set(json_, key)) return;
    const auto name = read_value<std::string>(json_[key], place(key), Missing::kKeepDefault);
    if (!name) {
      error_ = name.error();
      return;
    }
    for (const DTypeName& known : kDTypeNames) {
      if (*name != known.name) continue;
      reading_.config.stored = known.dtype;
      reading_.has_dtype = true;
      return;
    }
    fail(key, "got " + in_quotes(*name) + ", expected float32, bfloat16 or float16");
  }

  const Json& json_;
  std::string where_;
  ConfigReading reading_;
  std::optional<Error> error_;
};

std::vector<std::string> make_config_keys() {
  std::vector<std::string> keys = {"model_type",
                                   "architectures",
                                   "hidden_act",
                                   "pretraining_tp",
                                   "attention_dropout",
                                   "quantization_config",
                                   "per_layer_config",
                                   "rms_norm_eps",
                                   "num_key_value_heads",
                                   "head_dim",
                                   "bos_token_id",
                                   "eos_token_id",
                                   "dtype",
                                   "torch_dtype",
                                   "rope_theta",
                                   "rope_scaling",
                                   "rope_parameters",
                                   "partial_rotary_factor",
                                   "original_max_position_embeddings"};
  for (const IntegerKey& key : kIntegerKeys) keys.emplace_back(key.key);
  for (const FlagKey& key : kFlagKeys) keys.emplace_back(key.key);
  return keys;
}

}  // namespace

Result<ConfigReading> read_config_with_notes(std::string_view json_text, const std::string& where) {
  const auto json = parse_json(json_text, where);
  if (!json) return json.error();
  if (!json->is_object()) return json_detail::wrong(where, *json, "an object");
  return Reader(*json, where).read();
}

Result<ModelConfig> read_config(std::string_view json_text, const std::string& where) {
  auto reading = read_config_with_notes(json_text, where);
  if (!reading) return reading.error();
  return std::move(reading->config);
}

const std::vector<std::string>& config_keys() {
  static const std::vector<std::string> kKeys = make_config_keys();
  return kKeys;
}

}  // namespace ftplan::models

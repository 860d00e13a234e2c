#include "models/config_reader.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/dtype.h"
#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/text.h"
#include "models/config_field.h"
#include "models/config_quantization.h"
#include "models/config_rope.h"
#include "models/config_window.h"
#include "models/family_row.h"
#include "models/files.h"

namespace ftplan::models {
namespace {

// transformers' name and ftplan's member for the keys that are nothing but a value.
constexpr std::array kIntegerKeys = {
    IntegerKey{"vocab_size", &ModelConfig::vocabulary},
    IntegerKey{"hidden_size", &ModelConfig::hidden},
    IntegerKey{"num_hidden_layers", &ModelConfig::layers},
    IntegerKey{"num_attention_heads", &ModelConfig::heads},
    IntegerKey{"max_position_embeddings", &ModelConfig::positions},
};
const OnlyValue kNoAttentionDropout{"attention_dropout", 0.0,
                                    "dropout inside the attention is not built yet"};
constexpr FlagKey kTied{"tie_word_embeddings", &ModelConfig::tied_embeddings};

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
  Reader(const Json& json, std::string where) : json_(json), where_(std::move(where)) {}

  Result<ConfigReading> read() {
    find_row();
    if (error_) return *error_;
    reading_.config = row_->defaults;
    reading_.config.stored = DType::kF32;
    check_architectures();
    check_what_is_not_built();
    for (const IntegerKey& key : kIntegerKeys) read_key(key.key, key.member);
    for (const IntegerKey& key : row_->integers) {
      if (is_set(json_, key.key)) read_key(key.key, key.member);
    }
    read_intermediate();
    read_key(row_->keys.norm_epsilon, &ModelConfig::norm_epsilon);
    read_key(kTied.key, kTied.member);
    for (const FlagKey& key : row_->flags) read_key(key.key, key.member);
    for (const NumberKey& key : row_->numbers) {
      if (json_.contains(key.key) && json_[key.key].is_null()) {
        reading_.config.*key.member = 0;
      } else {
        read_key(key.key, key.member);
      }
    }
    read_heads();
    read_token("bos_token_id", &ModelConfig::bos_token);
    read_token("eos_token_id", &ModelConfig::eos_token);
    read_dtype();
    if (error_) return *error_;
    auto config = with_window(std::move(reading_.config), row_->windows, json_, where_);
    if (config && row_->resolve != nullptr)
      config = row_->resolve(*std::move(config), json_, where_);
    if (!config) return config.error();
    config = with_rope(*std::move(config), json_, where_, row_->rope);
    if (config) config = with_quantization(*std::move(config), json_, where_);
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

  void find_row() {
    std::vector<std::string> known;
    for (const FamilyRow& row : families()) known.emplace_back(row.model_type);
    if (!json_.contains("model_type")) {
      return fail("model_type", "missing: expected a Hugging Face config.json with model_type " +
                                    join(known, ", "));
    }
    const auto type =
        read_value<std::string>(json_["model_type"], place("model_type"), Missing::kKeepDefault);
    if (!type) {
      error_ = type.error();
      return;
    }
    for (const FamilyRow& row : families()) {
      if (std::find(row.former_types.begin(), row.former_types.end(), *type) ==
          row.former_types.end())
        continue;
      return fail("model_type", "got " + in_quotes(*type) + ", which transformers calls \"" +
                                    row.model_type +
                                    "\" today: take the config.json that the "
                                    "model has now");
    }
    row_ = find_family(*type);
    if (row_ == nullptr) {
      fail("model_type", in_quotes(*type) + " is not built yet: ftplan knows " + join(known, ", "));
    }
  }

  void check_architectures() {
    if (error_ || !is_set(json_, "architectures")) return;
    const auto list = read_value<std::vector<std::string>>(
        json_["architectures"], place("architectures"), Missing::kKeepDefault);
    if (!list) {
      error_ = list.error();
      return;
    }
    // A LlamaModel is the same without its head, which a tied head does not need.
    const std::string stem = row_->stem;
    const bool known =
        list->empty() || std::any_of(list->begin(), list->end(), [&](const auto& name) {
          return name == stem + "ForCausalLM" || name == stem + "Model";
        });
    if (!known) {
      fail("architectures", in_quotes(list->front()) +
                                " is not built yet: ftplan trains language models (" + stem +
                                "ForCausalLM)");
    }
  }

  template <class T>
  void expect(const OnlyValue& only) {
    const auto value = read_value<T>(json_[only.key], place(only.key), Missing::kKeepDefault);
    if (!value) {
      error_ = value.error();
    } else if (*value != only.value.get<T>()) {
      fail(only.key, "got " + json_detail::got(json_[only.key]) + ", expected " +
                         json_detail::got(only.value) + ": " + only.reason);
    }
  }

  void expect(const OnlyValue& only) {
    if (error_ || !is_set(json_, only.key)) return;
    if (only.value.is_string()) return expect<std::string>(only);
    if (only.value.is_boolean()) return expect<bool>(only);
    if (only.value.is_number_float()) return expect<double>(only);
    return expect<std::int64_t>(only);
  }

  void check_what_is_not_built() {
    for (const OnlyValue& only : row_->only) expect(only);
    expect(kNoAttentionDropout);
    for (const RenamedKey& key : row_->renamed) {
      if (is_set(json_, key.old))
        fail(key.old, std::string("transformers reads it no more: expected ") + key.now);
    }
    if (is_set(json_, "per_layer_config") && !json_["per_layer_config"].empty()) {
      fail("per_layer_config", "layers that differ are not built yet: expected none");
    }
  }

  void read_intermediate() {
    const char* key = row_->keys.intermediate;
    if (row_->defaults.intermediate == 0) {
      reading_.config.intermediate = 4 * reading_.config.hidden;
      if (!is_set(json_, key)) return;
    }
    read_key(key, &ModelConfig::intermediate);
  }

  void read_heads() {
    if (error_) return;
    ModelConfig& config = reading_.config;
    const char* groups = row_->keys.kv_heads;
    if (json_.contains(groups) && json_[groups].is_null()) config.kv_heads = 0;
    if (is_set(json_, groups)) read_key(groups, &ModelConfig::kv_heads);
    if (config.kv_heads == 0) config.kv_heads = config.heads;
    const bool wide = is_set(json_, "head_dim");
    if (wide) read_key("head_dim", &ModelConfig::head_size);
    if (error_) return;
    const bool derived = config.head_size == 0;
    if (config.hidden % config.heads != 0 && (derived || row_->heads_divide_hidden)) {
      return fail("num_attention_heads", "got " + std::to_string(config.heads) +
                                             ", expected a divisor of hidden_size, which is " +
                                             std::to_string(config.hidden));
    }
    if (config.heads % config.kv_heads != 0) {
      return fail(groups, "got " + std::to_string(config.kv_heads) +
                              ", expected a divisor of num_attention_heads, which is " +
                              std::to_string(config.heads));
    }
    if (derived) config.head_size = config.hidden / config.heads;
    if (config.head_size % 2 != 0) {
      fail("head_dim", "got " + std::to_string(config.head_size) +
                           (derived ? " (hidden_size / num_attention_heads)" : "") +
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
  const FamilyRow* row_ = nullptr;
  ConfigReading reading_;
  std::optional<Error> error_;
};

std::vector<std::string> make_config_keys() {
  std::vector<std::string> keys = {"model_type",
                                   "architectures",
                                   kNoAttentionDropout.key,
                                   kTied.key,
                                   kQuantizationKey,
                                   "per_layer_config",
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
  for (const std::string& key : window_keys()) keys.push_back(key);
  for (const FamilyRow& row : families()) {
    for (const char* key : {row.keys.kv_heads, row.keys.intermediate, row.keys.norm_epsilon})
      keys.emplace_back(key);
    for (const char* key : row.resolved) keys.emplace_back(key);
    for (const IntegerKey& key : row.integers) keys.emplace_back(key.key);
    for (const FlagKey& key : row.flags) keys.emplace_back(key.key);
    for (const NumberKey& key : row.numbers) keys.emplace_back(key.key);
    for (const OnlyValue& only : row.only) keys.emplace_back(only.key);
  }
  return keys;
}

}  // namespace

const char* dtype_name(DType dtype) {
  const auto* known = std::find_if(kDTypeNames.begin(), kDTypeNames.end(),
                                   [&](const DTypeName& name) { return name.dtype == dtype; });
  FTPLAN_CHECK(known != kDTypeNames.end());
  return known->name;
}

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

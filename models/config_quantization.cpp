#include "models/config_quantization.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "models/config_field.h"
#include "models/family.h"
#include "models/files.h"
#include "models/int8.h"
#include "models/stored_linear.h"

namespace ftplan::models {
namespace {

constexpr const char* kFourBits = "load_in_4bit";
constexpr const char* kEightBits = "load_in_8bit";
constexpr const char* kSkipped = "llm_int8_skip_modules";

Error not_read(const std::string& place, const std::string& by) {
  return bad_input(place, "weights quantized by " + by + " are not read: " + kGiveUnquantized);
}

// A key that only one value is built for.
template <class T>
Result<void> expect_only(const Json& json, const std::string& where, const char* key,
                         const T& otherwise, const T& only, const std::string& way_out) {
  const auto value = read_or<T>(json, where, key, otherwise, {0, 1e9});
  if (!value) return value.error();
  if (*value == only) return {};
  const Json got = *value;
  return bad_input(json_detail::child(where, key), "got " + json_detail::got(got) + ", expected " +
                                                       json_detail::got(Json(only)) + ": " +
                                                       way_out);
}

Result<StoredLinears> read_nf4(const Json& json, const std::string& where) {
  const std::string type = "bnb_4bit_quant_type";
  if (auto ok = expect_only<std::string>(json, where, type.c_str(), "fp4", "nf4", kGiveUnquantized);
      !ok)
    return ok.error();
  if (auto ok = expect_only<std::string>(json, where, "bnb_4bit_quant_storage", "uint8", "uint8",
                                         kGiveUnquantized);
      !ok)
    return ok.error();
  const auto twice = read_or<bool>(json, where, "bnb_4bit_use_double_quant", false);
  if (!twice) return twice.error();
  return *twice ? StoredLinears::kNf4Double : StoredLinears::kNf4;
}

Result<StoredLinears> read_int8(const Json& json, const std::string& where) {
  if (auto ok = expect_only<bool>(json, where, "llm_int8_has_fp16_weight", false, false,
                                  kGiveUnquantized);
      !ok)
    return ok.error();
  constexpr double kThreshold = kInt8Threshold;
  if (auto ok = expect_only<double>(json, where, "llm_int8_threshold", kThreshold, kThreshold,
                                    "other thresholds are not built yet");
      !ok)
    return ok.error();
  return StoredLinears::kInt8;
}

// Whether transformers would leave `module` alone for `pattern`: it begins with it, up to the end
// of a word, or ends with it.
bool skips(std::string_view pattern, std::string_view module) {
  if (module.ends_with(pattern)) return true;
  if (!module.starts_with(pattern)) return false;
  return pattern.ends_with('.') || module[pattern.size()] == '.';
}

std::vector<std::string> linears_of(const ModelConfig& config) {
  const Blueprint blueprint = make_blueprint(config);
  std::vector<std::string> names;
  for (const Weight& weight : blueprint.layer) {
    if (weight.kind != WeightKind::kMatrix) continue;
    for (std::int64_t layer = 0; layer < config.layers; ++layer)
      names.push_back(linear_name(layer_weight_name(blueprint, weight, layer)));
  }
  return names;
}

// What is skipped must be the head, which is never quantized here, and nothing of the layers.
Result<void> check_skipped(const ModelConfig& config, const Json& json, const std::string& where) {
  if (!is_set(json, kSkipped)) return {};
  const std::string place = json_detail::child(where, kSkipped);
  const auto skipped =
      read_value<std::vector<std::string>>(json.at(kSkipped), place, Missing::kKeepDefault);
  if (!skipped) return skipped.error();
  bool head = false;
  const std::vector<std::string> linears = linears_of(config);
  for (std::size_t i = 0; i < skipped->size(); ++i) {
    const std::string& pattern = (*skipped)[i];
    head = head || skips(pattern, "lm_head");
    const bool plain = pattern.find_first_of("\\^$*+?{}[]|()") == std::string::npos;
    const bool hit = std::any_of(linears.begin(), linears.end(),
                                 [&](const auto& linear) { return skips(pattern, linear); });
    if (plain && !hit) continue;
    return bad_input(json_detail::child(place, std::to_string(i)),
                     "got " + in_quotes(pattern) +
                         ": linears of the layers that are not quantized are not built yet; " +
                         kGiveUnquantized);
  }
  if (head) return {};
  return bad_input(place, std::string("lacks \"lm_head\", so the head is quantized too, which is "
                                      "not built yet; ") +
                              kGiveUnquantized);
}

}  // namespace

Result<ModelConfig> with_quantization(ModelConfig config, const Json& json,
                                      const std::string& where) {
  if (!is_set(json, kQuantizationKey)) return config;
  const std::string place = json_detail::child(where, kQuantizationKey);
  const Json& quantization = json.at(kQuantizationKey);
  if (!quantization.is_object()) return not_read(place, "somebody else");
  const auto four = read_or<bool>(quantization, place, kFourBits, false);
  if (!four) return four.error();
  const auto eight = read_or<bool>(quantization, place, kEightBits, false);
  if (!eight) return eight.error();
  // Old folders do not name the method.
  const bool named = is_set(quantization, "quant_method");
  const bool bitsandbytes =
      named ? quantization["quant_method"] == "bitsandbytes" : *four || *eight;
  if (!bitsandbytes)
    return not_read(place,
                    named ? json_detail::got(quantization["quant_method"]) : "somebody else");
  if (*four == *eight) {
    return bad_input(
        place, std::string("expected one of ") + kFourBits + " and " + kEightBits + " to be true");
  }
  if (config.family == Family::kFalcon) {
    return bad_input(place,
                     "transformers' bitsandbytes leaves the linears of Falcon as they are: remove "
                     "this key from a copy of config.json; --method qlora quantizes them");
  }
  const auto stored = *four ? read_nf4(quantization, place) : read_int8(quantization, place);
  if (!stored) return stored.error();
  if (auto ok = check_skipped(config, quantization, place); !ok) return ok.error();
  config.stored_linears = *stored;
  return config;
}

}  // namespace ftplan::models

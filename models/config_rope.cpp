#include "models/config_rope.h"

#include <cstdint>
#include <string>

#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/text.h"
#include "models/config_field.h"
#include "models/files.h"

namespace ftplan::models {
namespace {

// The object that holds the rotary parameters, and its place.
struct RopeObject {
  Json json = Json::object();
  std::string where;
};

// An empty object counts as none, and the older key wins where both are there: so does
// transformers.
Result<RopeObject> find_rope_object(const Json& json, const std::string& where) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!is_set(json, key)) continue;
    const std::string place = json_detail::child(where, key);
    const Json& object = json.at(key);
    if (!object.is_object()) return json_detail::wrong(place, object, "an object or null");
    if (!object.empty()) return RopeObject{object, place};
  }
  return RopeObject{.where = where};
}

Result<RopeScaling> read_type(const RopeObject& rope) {
  const char* key = rope.json.contains("rope_type") ? "rope_type" : "type";
  if (!rope.json.contains(key)) return RopeScaling::kNone;
  const std::string place = json_detail::child(rope.where, key);
  const auto type = read_value<std::string>(rope.json.at(key), place, Missing::kKeepDefault);
  if (!type) return type.error();
  if (*type == "default") return RopeScaling::kNone;
  if (*type == "linear") return RopeScaling::kLinear;
  if (*type == "llama3") return RopeScaling::kLlama3;
  return bad_input(place, "rotary scaling " + in_quotes(*type) +
                              " is not built yet: expected default, linear or llama3; without "
                              "scaling the model works up to its positions of pre-training");
}

// Rotating only a part of each head is another model.
Result<void> check_whole_heads(const Json& object, const std::string& where) {
  constexpr const char* kKey = "partial_rotary_factor";
  if (!is_set(object, kKey)) return {};
  const std::string place = json_detail::child(where, kKey);
  const auto factor = read_value<double>(object.at(kKey), place, Missing::kKeepDefault, {0, 1});
  if (!factor) return factor.error();
  if (*factor == 1.0) return {};
  return bad_input(place, "rotating a part of each head is not built yet: expected 1");
}

Result<void> check_flat(const RopeObject& rope) {
  for (const auto& entry : rope.json.items()) {
    if (!entry.value().is_object()) continue;
    return bad_input(
        json_detail::child(rope.where, entry.key()),
        "rotary parameters per kind of layer are not built yet: expected one set of them");
  }
  return {};
}

template <class T>
Result<T> read_needed(const RopeObject& rope, const char* key, T ModelConfig::* member) {
  if (!rope.json.contains(key)) {
    return bad_input(json_detail::child(rope.where, key), "missing");
  }
  return read_field(rope.json, rope.where, key, member);
}

// Positions of pre-training: the top level wins over the object, the model's own positions stand in
// for both.
Result<std::int64_t> read_original_positions(const RopeObject& rope, const Json& json,
                                             const std::string& where, std::int64_t positions) {
  constexpr const char* kKey = "original_max_position_embeddings";
  if (is_set(json, kKey))
    return read_field(json, where, kKey, &ModelConfig::rope_original_positions);
  if (!is_set(rope.json, kKey)) return positions;
  return read_field(rope.json, rope.where, kKey, &ModelConfig::rope_original_positions);
}

Result<ModelConfig> with_llama3(ModelConfig config, const RopeObject& rope, const Json& json,
                                const std::string& where) {
  const auto low = read_needed(rope, "low_freq_factor", &ModelConfig::rope_low_frequency_factor);
  if (!low) return low.error();
  const auto high = read_needed(rope, "high_freq_factor", &ModelConfig::rope_high_frequency_factor);
  if (!high) return high.error();
  if (*high <= *low) {
    return bad_input(json_detail::child(rope.where, "high_freq_factor"),
                     "got " + format_number(*high) +
                         ", expected more than low_freq_factor, which is " + format_number(*low));
  }
  const auto original = read_original_positions(rope, json, where, config.positions);
  if (!original) return original.error();
  config.rope_low_frequency_factor = *low;
  config.rope_high_frequency_factor = *high;
  config.rope_original_positions = *original;
  return config;
}

Result<double> read_theta(const RopeObject& rope, const Json& json, const std::string& where) {
  constexpr const char* kKey = "rope_theta";
  if (rope.json.contains(kKey))
    return read_field(rope.json, rope.where, kKey, &ModelConfig::rope_theta);
  if (json.contains(kKey)) return read_field(json, where, kKey, &ModelConfig::rope_theta);
  return ModelConfig{}.rope_theta;
}

}  // namespace

Result<ModelConfig> with_rope(ModelConfig config, const Json& json, const std::string& where) {
  const auto rope = find_rope_object(json, where);
  if (!rope) return rope.error();
  if (auto flat = check_flat(*rope); !flat) return flat.error();
  if (auto whole = check_whole_heads(json, where); !whole) return whole.error();
  if (auto whole = check_whole_heads(rope->json, rope->where); !whole) return whole.error();

  const auto theta = read_theta(*rope, json, where);
  if (!theta) return theta.error();
  config.rope_theta = *theta;
  const auto type = read_type(*rope);
  if (!type) return type.error();
  config.rope_scaling = *type;
  if (*type == RopeScaling::kNone) return config;

  const auto factor = read_needed(*rope, "factor", &ModelConfig::rope_factor);
  if (!factor) return factor.error();
  config.rope_factor = *factor;
  return *type == RopeScaling::kLlama3 ? with_llama3(config, *rope, json, where) : config;
}

}  // namespace ftplan::models

#include "models/config_rope.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/fields.h"
#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/text.h"
#include "models/config_field.h"
#include "models/family_row.h"
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

struct TypeName {
  const char* name;
  RopeScaling scaling;
};
constexpr std::array kRopeTypes = {
    TypeName{"default", RopeScaling::kNone},    TypeName{"linear", RopeScaling::kLinear},
    TypeName{"dynamic", RopeScaling::kDynamic}, TypeName{"llama3", RopeScaling::kLlama3},
    TypeName{"yarn", RopeScaling::kYarn},       TypeName{"longrope", RopeScaling::kLongrope}};
// What Phi-3 knows, with names of longrope from before transformers had it.
constexpr std::array kPhi3RopeTypes = {
    TypeName{"default", RopeScaling::kNone}, TypeName{"longrope", RopeScaling::kLongrope},
    TypeName{"su", RopeScaling::kLongrope}, TypeName{"yarn", RopeScaling::kLongrope}};

Result<RopeScaling> read_type(const RopeObject& rope, std::span<const TypeName> known) {
  const char* key = rope.json.contains("rope_type") ? "rope_type" : "type";
  if (!rope.json.contains(key)) return RopeScaling::kNone;
  const std::string place = json_detail::child(rope.where, key);
  const auto type = read_value<std::string>(rope.json.at(key), place, Missing::kKeepDefault);
  if (!type) return type.error();
  std::vector<std::string> names;
  for (const TypeName& one : known) {
    if (*type == one.name) return one.scaling;
    names.emplace_back(one.name);
  }
  return bad_input(place, "rotary scaling " + in_quotes(*type) +
                              " is not built yet: expected one of " + join(names, ", ") +
                              "; without scaling the model works up to its positions of "
                              "pre-training");
}

// The object's value wins. Only families that say so can leave a part of each head as it is.
Result<ModelConfig> with_rotated_part(ModelConfig config, const RopeObject& rope, const Json& json,
                                      const std::string& where, RopeRule rule) {
  constexpr const char* kKey = "partial_rotary_factor";
  const bool inside = is_set(rope.json, kKey);
  if (!inside && !is_set(json, kKey)) return config;
  const std::string place = json_detail::child(inside ? rope.where : where, kKey);
  const auto factor = read_value<double>((inside ? rope.json : json).at(kKey), place,
                                         Missing::kKeepDefault, {0, 1});
  if (!factor) return factor.error();
  if (*factor == 1.0) return config;
  if (rule != RopeRule::kPhi3) {
    return bad_input(place, "rotating a part of each head is not built yet: expected 1");
  }
  config.rotary_size = static_cast<std::int64_t>(static_cast<double>(config.head_size) * *factor);
  if (config.rotary_size == 0 || config.rotary_size % 2 != 0) {
    return bad_input(place, "got " + format_number(*factor) + ", which rotates " +
                                std::to_string(config.rotary_size) + " of " +
                                std::to_string(config.head_size) +
                                " values of a head: expected an even number of them");
  }
  return config;
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

// Positions of pre-training: the top level wins over the object. Phi-3 has a default of its own for
// the top level; elsewhere the model's own positions stand in for both.
Result<std::int64_t> read_original_positions(const RopeObject& rope, const Json& json,
                                             const std::string& where, const ModelConfig& config,
                                             RopeRule rule) {
  constexpr const char* kKey = "original_max_position_embeddings";
  if (is_set(json, kKey))
    return read_field(json, where, kKey, &ModelConfig::rope_original_positions);
  if (rule == RopeRule::kPhi3) return config.rope_original_positions;
  if (!is_set(rope.json, kKey)) return config.positions;
  return read_field(rope.json, rope.where, kKey, &ModelConfig::rope_original_positions);
}

Result<ModelConfig> with_llama3(ModelConfig config, const RopeObject& rope) {
  const auto low = read_needed(rope, "low_freq_factor", &ModelConfig::rope_low_frequency_factor);
  if (!low) return low.error();
  const auto high = read_needed(rope, "high_freq_factor", &ModelConfig::rope_high_frequency_factor);
  if (!high) return high.error();
  if (*high <= *low) {
    return bad_input(json_detail::child(rope.where, "high_freq_factor"),
                     "got " + format_number(*high) +
                         ", expected more than low_freq_factor, which is " + format_number(*low));
  }
  config.rope_low_frequency_factor = *low;
  config.rope_high_frequency_factor = *high;
  return config;
}

// Reads `key` over `config`'s member where it is set.
template <class T>
Result<void> read_set(const RopeObject& rope, const char* key, T ModelConfig::* member,
                      ModelConfig& config) {
  if (!is_set(rope.json, key)) return {};
  auto value = read_field(rope.json, rope.where, key, member);
  if (!value) return value.error();
  config.*member = *std::move(value);
  return {};
}

// Without a factor positions over original positions are taken.
Result<ModelConfig> with_ratio(ModelConfig config, const RopeObject& rope) {
  config.rope_factor = std::max(1.0, static_cast<double>(config.positions) /
                                         static_cast<double>(config.rope_original_positions));
  if (auto ok = read_set(rope, "factor", &ModelConfig::rope_factor, config); !ok) return ok.error();
  return config;
}

// @source Peng et al. 2023, arXiv:2309.00071, section 3.4; scales of DeepSeek-V2 in transformers
Result<double> yarn_attention_factor(const RopeObject& rope, double factor) {
  const auto scale = [&](double m) { return factor <= 1 ? 1 : 0.1 * m * std::log(factor) + 1; };
  constexpr Range kAny{-1e6, 1e6};
  const auto m = read_or<double>(rope.json, rope.where, "mscale", 0, kAny);
  if (!m) return m.error();
  const auto all = read_or<double>(rope.json, rope.where, "mscale_all_dim", 0, kAny);
  if (!all) return all.error();
  return *m != 0 && *all != 0 ? scale(*m) / scale(*all) : scale(1);
}

Result<ModelConfig> with_yarn(ModelConfig config, const RopeObject& rope) {
  auto read = with_ratio(std::move(config), rope);
  if (!read) return read;
  // 0 counts as none.
  for (const auto& [key, member] : {std::pair{"beta_fast", &ModelConfig::rope_fast_turns},
                                    std::pair{"beta_slow", &ModelConfig::rope_slow_turns}}) {
    if (is_set(rope.json, key) && rope.json.at(key) == 0) continue;
    if (auto ok = read_set(rope, key, member, *read); !ok) return ok.error();
  }
  if (auto ok = read_set(rope, "truncate", &ModelConfig::rope_truncated, *read); !ok)
    return ok.error();
  const auto attention = yarn_attention_factor(rope, read->rope_factor);
  if (!attention) return attention.error();
  read->rope_attention_factor = *attention;
  const double longest = static_cast<double>(read->rope_original_positions) * read->rope_factor;
  read->positions = std::max(read->positions, static_cast<std::int64_t>(longest));
  return read;
}

Result<ModelConfig> with_longrope(ModelConfig config, const RopeObject& rope) {
  auto read = with_ratio(std::move(config), rope);
  if (!read) return read;
  const double factor = read->rope_factor;
  const auto original = static_cast<double>(read->rope_original_positions);
  // @source Ding et al. 2024, arXiv:2402.13753, equation 4 of its code: su scaling
  read->rope_attention_factor =
      factor > 1 ? std::sqrt(1 + std::log(factor) / std::log(original)) : 1;
  const auto frequencies = static_cast<std::size_t>(read->rotated_size() / 2);
  for (const auto& [key, member] : {std::pair{"short_factor", &ModelConfig::rope_short_factors},
                                    std::pair{"long_factor", &ModelConfig::rope_long_factors}}) {
    auto list = read_needed(rope, key, member);
    if (!list) return list.error();
    if (list->size() != frequencies) {
      return bad_input(json_detail::child(rope.where, key),
                       "got " + std::to_string(list->size()) +
                           " numbers, expected one for each of " + std::to_string(frequencies) +
                           " frequencies: half of what is rotated of a head");
    }
    (*read).*member = *std::move(list);
  }
  return read;
}

// The rule begins behind the model's own positions and is good for `factor` times as many.
ModelConfig with_dynamic(ModelConfig config) {
  config.rope_original_positions = config.positions;
  config.positions =
      static_cast<std::int64_t>(static_cast<double>(config.positions) * config.rope_factor);
  return config;
}

Result<double> read_theta(const RopeObject& rope, const Json& json, const std::string& where,
                          double otherwise) {
  constexpr const char* kKey = "rope_theta";
  if (rope.json.contains(kKey))
    return read_field(rope.json, rope.where, kKey, &ModelConfig::rope_theta);
  if (json.contains(kKey)) return read_field(json, where, kKey, &ModelConfig::rope_theta);
  return otherwise;
}

Result<ModelConfig> with_scaling(ModelConfig config, const RopeObject& rope, const Json& json,
                                 const std::string& where, RopeRule rule) {
  const RopeScaling scaling = config.rope_scaling;
  if (scaling == RopeScaling::kLinear || scaling == RopeScaling::kDynamic ||
      scaling == RopeScaling::kLlama3 ||
      (scaling == RopeScaling::kYarn && !rope.json.contains("factor"))) {
    const auto factor = read_needed(rope, "factor", &ModelConfig::rope_factor);
    if (!factor) return factor.error();
    config.rope_factor = *factor;
  }
  if (scaling == RopeScaling::kLinear) return config;
  if (scaling == RopeScaling::kDynamic) return with_dynamic(std::move(config));
  const auto original = read_original_positions(rope, json, where, config, rule);
  if (!original) return original.error();
  config.rope_original_positions = *original;
  if (scaling == RopeScaling::kLlama3) return with_llama3(std::move(config), rope);
  auto scaled = scaling == RopeScaling::kYarn ? with_yarn(std::move(config), rope)
                                              : with_longrope(std::move(config), rope);
  if (!scaled) return scaled;
  if (auto ok = read_set(rope, "attention_factor", &ModelConfig::rope_attention_factor, *scaled);
      !ok)
    return ok.error();
  return scaled;
}

}  // namespace

Result<ModelConfig> with_rope(ModelConfig config, const Json& json, const std::string& where,
                              RopeRule rule) {
  const auto rope = find_rope_object(json, where);
  if (!rope) return rope.error();
  if (auto flat = check_flat(*rope); !flat) return flat.error();
  const auto theta = read_theta(*rope, json, where, config.rope_theta);
  if (!theta) return theta.error();
  config.rope_theta = *theta;
  auto rotated = with_rotated_part(std::move(config), *rope, json, where, rule);
  if (!rotated) return rotated;
  const bool phi3 = rule == RopeRule::kPhi3;
  const auto type = read_type(*rope, phi3 ? std::span<const TypeName>(kPhi3RopeTypes)
                                          : std::span<const TypeName>(kRopeTypes));
  if (!type) return type.error();
  rotated->rope_scaling = *type;
  if (*type == RopeScaling::kNone) return rotated;
  return with_scaling(*std::move(rotated), *rope, json, where, rule);
}

}  // namespace ftplan::models

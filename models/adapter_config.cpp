#include "models/adapter_config.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/fields.h"
#include "core/job.h"
#include "core/json.h"
#include "core/method.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/text.h"
#include "models/adapter_names.h"
#include "models/config_field.h"
#include "models/family.h"
#include "models/files.h"

namespace ftplan::models {
namespace {

constexpr const char* kModulesToSave = "modules_to_save";

// Keys that change nothing about what a stored adapter computes, whatever their value.
constexpr std::array kWithoutEffect = {
    "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_version",
    "eva_config", "loftq_config", "qalora_group_size", "megatron_core", "runtime_config",
    // Read elsewhere in this file.
    "peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "bias",
    "init_lora_weights", "target_modules", "rank_pattern", "alpha_pattern", "modules_to_save",
    "ensure_weight_tying", "exclude_modules", "layers_to_transform", "layers_pattern"};

// Reasons for what users meet; every other key must be off.
struct Refusal {
  const char* key;
  const char* reason;
};
constexpr std::array kRefusals = {
    Refusal{"use_dora", "DoRA's magnitudes are not built yet"},
    Refusal{"lora_bias", "biases on LoRA matrices are not built yet"},
    Refusal{"fan_in_fan_out", "Llama's linears are stored as [out, in]"},
    Refusal{"target_parameters", "LoRA on parameters of experts is not built yet"},
    Refusal{"trainable_token_indices", "trained tokens are not built yet"},
    Refusal{"layer_replication", "stacked copies of layers are not built yet"},
};

// PEFT keeps these ways of starting out of the base weights; all others move a part of the base
// into the adapter.
constexpr std::array kPlainInits = {"gaussian", "eva", "orthogonal"};

// Null, false, 0, "" and what is empty: an option that is not used.
bool is_off(const Json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_number()) return value.get<double>() == 0;
  if (value.is_string()) return value.get_ref<const std::string&>().empty();
  return value.empty();
}

Result<void> check_unused(const Json& json, const std::string& where) {
  for (const auto& entry : json.items()) {
    const std::string& key = entry.key();
    const bool harmless =
        std::find(kWithoutEffect.begin(), kWithoutEffect.end(), key) != kWithoutEffect.end();
    if (harmless || is_off(entry.value())) continue;
    const auto* refusal = std::find_if(kRefusals.begin(), kRefusals.end(),
                                       [&](const Refusal& row) { return key == row.key; });
    const std::string reason =
        refusal == kRefusals.end() ? "this option of PEFT is not built yet" : refusal->reason;
    return bad_input(json_detail::child(where, key),
                     "got " + json_detail::got(entry.value()) + ", expected it off: " + reason);
  }
  return {};
}

Result<void> check_word(const Json& json, const std::string& where, const char* key,
                        const std::string& only, const std::string& reason) {
  if (!is_set(json, key)) return {};
  const std::string place = json_detail::child(where, key);
  const auto word = read_value<std::string>(json.at(key), place, Missing::kKeepDefault);
  if (!word) return word.error();
  if (*word == only) return {};
  return bad_input(place,
                   "got " + in_quotes(*word) + ", expected " + in_quotes(only) + ": " + reason);
}

Result<void> check_init(const Json& json, const std::string& where) {
  constexpr const char* kKey = "init_lora_weights";
  if (!is_set(json, kKey) || json.at(kKey).is_boolean()) return {};
  const std::string place = json_detail::child(where, kKey);
  const auto word = read_value<std::string>(json.at(kKey), place, Missing::kKeepDefault);
  if (!word) return word.error();
  if (std::find(kPlainInits.begin(), kPlainInits.end(), *word) != kPlainInits.end()) return {};
  return bad_input(place,
                   "got " + in_quotes(*word) +
                       ": it changes the base weights, so the adapter does not fit the base model "
                       "alone; save it with PEFT's path_initial_model_for_weight_conversion");
}

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// Names as a list, or one text.
struct NamesOrText {
  std::vector<std::string> names;
  std::string text;
};

Result<NamesOrText> read_names_or_text(const Json& json, const std::string& where,
                                       const char* key) {
  NamesOrText read;
  if (!is_set(json, key)) return read;
  if (json.at(key).is_string()) {
    read.text = json.at(key).get<std::string>();
    return read;
  }
  auto list = read_value<std::vector<std::string>>(json.at(key), json_detail::child(where, key),
                                                   Missing::kKeepDefault);
  if (!list) return list.error();
  read.names = *std::move(list);
  return read;
}

Result<void> read_targets(const Json& json, const std::string& where, AdapterConfig& config) {
  constexpr const char* kKey = "target_modules";
  const std::string place = json_detail::child(where, kKey);
  if (!is_set(json, kKey)) {
    return bad_input(place,
                     "missing: expected a list of module names, a regular expression, or "
                     "\"all-linear\"");
  }
  auto read = read_names_or_text(json, where, kKey);
  if (!read) return read.error();
  config.targets = std::move(read->names);
  if (lower(read->text) == kAllLinear) {
    config.targets = {kAllLinear};
  } else {
    config.target_pattern = std::move(read->text);
  }
  if (config.targets.empty() && config.target_pattern.empty())
    return bad_input(place, "got an empty list, expected module names");
  return {};
}

Result<void> read_excluded(const Json& json, const std::string& where, AdapterConfig& config) {
  auto read = read_names_or_text(json, where, "exclude_modules");
  if (!read) return read.error();
  config.excluded = std::move(read->names);
  config.exclude_pattern = std::move(read->text);
  return {};
}

// One number or several.
Result<void> read_layers(const Json& json, const std::string& where, AdapterConfig& config) {
  constexpr const char* kKey = "layers_to_transform";
  constexpr const char* kPatternKey = "layers_pattern";
  const std::string place = json_detail::child(where, kKey);
  if (is_set(json, kKey)) {
    const Json& value = json.at(kKey);
    auto layers =
        read_value<std::vector<std::int64_t>>(value.is_array() ? value : Json::array({value}),
                                              place, Missing::kKeepDefault, {0, 1 << 20});
    if (!layers) return layers.error();
    config.layers = *std::move(layers);
    if (!config.layers.empty() && json.at("target_modules").is_string()) {
      return bad_input(place, "got " + json_detail::got(value) +
                                  " with a text in target_modules, expected a list of names there");
    }
  }
  auto pattern = read_names_or_text(json, where, kPatternKey);
  if (!pattern) return pattern.error();
  config.layers_pattern = std::move(pattern->names);
  if (!pattern->text.empty()) config.layers_pattern.push_back(pattern->text);
  for (const std::string& name : config.layers_pattern) {
    if (!is_regex(name)) continue;
    return bad_input(
        json_detail::child(where, kPatternKey),
        "got " + in_quotes(name) + ": regular expressions are not built yet here, expected names");
  }
  return {};
}

template <class Value>
Result<std::vector<std::pair<std::string, Value>>> read_pattern(const Json& json,
                                                                const std::string& where,
                                                                const char* key, Range range) {
  std::vector<std::pair<std::string, Value>> pattern;
  if (!is_set(json, key)) return pattern;
  const std::string place = json_detail::child(where, key);
  if (!json.at(key).is_object()) return json_detail::wrong(place, json.at(key), "an object");
  for (const auto& entry : json.at(key).items()) {
    const auto value = read_value<Value>(entry.value(), json_detail::child(place, entry.key()),
                                         Missing::kKeepDefault, range);
    if (!value) return value.error();
    pattern.emplace_back(entry.key(), *value);
  }
  return pattern;
}

template <class Value>
Json render_pattern(const std::vector<std::pair<std::string, Value>>& pattern) {
  Json json = Json::object();
  for (const auto& [name, value] : pattern) json[name] = value;
  return json;
}

Result<void> check_options(const Json& json, const std::string& where) {
  auto is_lora = check_word(json, where, "peft_type", "LORA", "other methods are not built yet");
  if (!is_lora) return is_lora;
  auto is_causal =
      check_word(json, where, "task_type", "CAUSAL_LM", "other tasks are not built yet");
  if (!is_causal) return is_causal;
  auto no_bias = check_word(json, where, "bias", "none", "trained biases are not built yet");
  if (!no_bias) return no_bias;
  if (auto checked = check_init(json, where); !checked) return checked;
  return check_unused(json, where);
}

// `model.layers.3.self_attn.q_proj` without `model.layers.3.`
std::string module_name(const Weight& weight) {
  constexpr std::string_view kEnd = ".weight";
  return weight.name.substr(0, weight.name.size() - kEnd.size());
}

// `model.layers.3.input_layernorm.weight` without `model.layers.3.`
std::string without_layer(const Blueprint& blueprint, const std::string& name) {
  if (!name.starts_with(blueprint.layer_prefix)) return name;
  return name.substr(name.find('.', blueprint.layer_prefix.size()) + 1);
}

}  // namespace

double AdaptedLinear::scaling(bool rslora) const {
  return lora_scale(alpha, static_cast<double>(rank), rslora);
}

Result<AdapterConfig> read_adapter_config(std::string_view json_text, const std::string& where) {
  const auto json = parse_json(json_text, where);
  if (!json) return json.error();
  if (!json->is_object()) return json_detail::wrong(where, *json, "an object");
  if (!is_set(*json, "peft_type")) {
    return bad_input(json_detail::child(where, "peft_type"), "missing: expected \"LORA\"");
  }
  if (auto checked = check_options(*json, where); !checked) return checked.error();

  AdapterConfig config;
  const auto rank = read_or<std::int64_t>(*json, where, "r", config.rank, {1, 1 << 14});
  if (!rank) return rank.error();
  const auto alpha = read_or<double>(*json, where, "lora_alpha", config.alpha, {0, 1e6});
  if (!alpha) return alpha.error();
  const auto dropout = read_or<double>(*json, where, "lora_dropout", config.dropout, {0, 1});
  if (!dropout) return dropout.error();
  const auto rslora = read_or<bool>(*json, where, "use_rslora", config.rslora);
  if (!rslora) return rslora.error();
  const auto base = read_or<std::string>(*json, where, "base_model_name_or_path", "");
  if (!base) return base.error();
  auto ranks = read_pattern<std::int64_t>(*json, where, "rank_pattern", {1, 1 << 14});
  if (!ranks) return ranks.error();
  auto alphas = read_pattern<double>(*json, where, "alpha_pattern", {0, 1e6});
  if (!alphas) return alphas.error();
  auto modules = read_or<std::vector<std::string>>(*json, where, kModulesToSave, {});
  if (!modules) return modules.error();
  const auto tied = read_or<bool>(*json, where, "ensure_weight_tying", false);
  if (!tied) return tied.error();
  config.base_model = *base;
  config.rank = *rank;
  config.alpha = *alpha;
  config.dropout = *dropout;
  config.rslora = *rslora;
  config.rank_pattern = *std::move(ranks);
  config.alpha_pattern = *std::move(alphas);
  config.modules_to_save = *std::move(modules);
  config.ensure_weight_tying = *tied;
  for (const auto& read : {read_targets, read_excluded, read_layers}) {
    if (auto ok = read(*json, where, config); !ok) return ok.error();
  }
  return config;
}

std::string render_adapter_config(const AdapterConfig& config, Family family) {
  Json json;
  if (!config.alpha_pattern.empty()) json["alpha_pattern"] = render_pattern(config.alpha_pattern);
  json["base_model_name_or_path"] = config.base_model;
  json["bias"] = "none";
  if (config.ensure_weight_tying) json["ensure_weight_tying"] = true;
  if (!config.excluded.empty()) json["exclude_modules"] = config.excluded;
  if (!config.exclude_pattern.empty()) json["exclude_modules"] = config.exclude_pattern;
  json["fan_in_fan_out"] = false;
  json["inference_mode"] = true;
  json["init_lora_weights"] = true;
  if (!config.layers_pattern.empty()) json["layers_pattern"] = config.layers_pattern;
  if (!config.layers.empty()) json["layers_to_transform"] = config.layers;
  // Old versions of PEFT declare it as an integer.
  if (config.alpha == std::floor(config.alpha)) {
    json["lora_alpha"] = static_cast<std::int64_t>(config.alpha);
  } else {
    json["lora_alpha"] = config.alpha;
  }
  json["lora_dropout"] = config.dropout;
  json[kModulesToSave] = nullptr;
  if (!config.modules_to_save.empty()) json[kModulesToSave] = config.modules_to_save;
  json["peft_type"] = "LORA";
  json["r"] = config.rank;
  if (!config.rank_pattern.empty()) json["rank_pattern"] = render_pattern(config.rank_pattern);
  // The linears by name, since old versions of PEFT do not know `all-linear`.
  const bool all = config.targets == std::vector<std::string>{kAllLinear};
  json["target_modules"] = all ? linear_names(family) : config.targets;
  if (!config.target_pattern.empty()) json["target_modules"] = config.target_pattern;
  json["task_type"] = "CAUSAL_LM";
  if (config.rslora) json["use_rslora"] = true;
  return render_json(json);
}

Result<std::vector<AdaptedLinear>> adapted_linears(const AdapterConfig& config,
                                                   const ModelConfig& model,
                                                   const std::string& where) {
  const std::string place = json_detail::child(where, "target_modules");
  const Blueprint blueprint = make_blueprint(model);
  auto names = AdapterNames::read(config, blueprint.layer_prefix, where);
  if (!names) return names.error();
  std::vector<AdaptedLinear> adapted;
  const auto add = [&](const std::string& module, std::int64_t layer, int linear) -> Result<void> {
    const auto rank = names->rank(module);
    if (!rank) return rank.error();
    const auto alpha = names->alpha(module);
    if (!alpha) return alpha.error();
    adapted.push_back({layer, linear, *rank, *alpha});
    return {};
  };
  const bool all = config.targets == std::vector<std::string>{kAllLinear};
  for (std::int64_t layer = 0; layer < model.layers; ++layer) {
    for (const Weight& weight : blueprint.layer) {
      const bool expert = weight.kind == WeightKind::kExpert;
      if (weight.kind != WeightKind::kMatrix && (!expert || all)) continue;
      const std::string module =
          layer_weight_name(blueprint, Weight{module_name(weight), {}}, layer);
      const auto named = names->targets({module, layer});
      if (!named) return named.error();
      if (!*named) continue;
      if (expert) {
        return bad_input(place,
                         "names " + module + ": adapters on routers and experts are not built yet");
      }
      if (auto ok = add(module, layer, weight.linear); !ok) return ok.error();
    }
  }
  // As in PEFT, what is trained in full is not adapted, too.
  const auto saved = saved_modules(config, model, where);
  if (!saved) return saved.error();
  const int first_edge = embedding_index(model.family);
  for (const auto& [weight, index] :
       {std::pair{blueprint.embedding, first_edge},
        std::pair{Weight{kUntiedHead, {}}, head_index(model.family)}}) {
    const std::string module = module_name(weight);
    const auto named = names->targets({module});
    if (!named) return named.error();
    if (!*named || is_of(*saved, weight.name)) continue;
    if (model.tied_embeddings && config.ensure_weight_tying) {
      return bad_input(place,
                       "names " + module +
                           ": one adapter of a tied embedding and head (ensure_weight_tying) "
                           "is not built yet");
    }
    if (auto ok = add(module, 0, index); !ok) return ok.error();
  }
  if (!adapted.empty()) return adapted;
  return bad_input(
      place, "names no linear of this model, which has " + join(linear_names(model.family), ", "));
}

Result<std::vector<std::string>> saved_modules(const AdapterConfig& config,
                                               const ModelConfig& model, const std::string& where) {
  return resolve_modules({.modules_to_save = config.modules_to_save,
                          .ensure_weight_tying = config.ensure_weight_tying},
                         model, json_detail::child(where, kModulesToSave));
}

Result<std::vector<Weight>> saved_weights(const AdapterConfig& config, const ModelConfig& model,
                                          const std::string& where) {
  const auto modules = saved_modules(config, model, where);
  if (!modules) return modules.error();
  const Blueprint blueprint = make_blueprint(model);
  std::vector<Weight> saved;
  for (const Weight& weight : all_weights(blueprint, model)) {
    if (is_of(*modules, without_layer(blueprint, weight.name))) saved.push_back(weight);
  }
  return saved;
}

Result<LayerAdapters> same_in_layers(const std::vector<AdaptedLinear>& adapted,
                                     const ModelConfig& model, const std::string& where) {
  const std::vector<std::string>& linears = linear_names(model.family);
  constexpr const char* kNotBuilt =
      " layers: adapters that differ between layers are not built yet";
  const int edges = embedding_index(model.family);
  std::set<std::int64_t> layers;
  for (const AdaptedLinear& linear : adapted) {
    if (linear.linear < edges) layers.insert(linear.layer);
  }
  LayerAdapters same;
  for (std::size_t linear = 0; linear < linears.size(); ++linear) {
    std::vector<AdaptedLinear> found;
    std::copy_if(adapted.begin(), adapted.end(), std::back_inserter(found),
                 [&](const AdaptedLinear& a) { return a.linear == static_cast<int>(linear); });
    if (found.empty()) continue;
    const AdaptedLinear& first = found.front();
    const auto alike = std::count_if(found.begin(), found.end(), [&](const AdaptedLinear& a) {
      return a.rank == first.rank && a.alpha == first.alpha;
    });
    if (static_cast<std::size_t>(alike) != layers.size()) {
      return bad_input(json_detail::child(where, "target_modules"),
                       linears[linear] + " is adapted alike in " + std::to_string(alike) + " of " +
                           std::to_string(layers.size()) + kNotBuilt);
    }
    same.linears.push_back(first);
  }
  std::copy_if(adapted.begin(), adapted.end(), std::back_inserter(same.linears),
               [&](const AdaptedLinear& a) { return a.linear >= edges; });
  const bool all = layers.size() == static_cast<std::size_t>(model.layers);
  if (!all) same.layers.assign(layers.begin(), layers.end());
  return same;
}

}  // namespace ftplan::models

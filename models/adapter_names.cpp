#include "models/adapter_names.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/regex.h"
#include "core/result.h"
#include "models/adapter_config.h"

namespace ftplan::models {
namespace {

Result<Regex> compile(const std::string& pattern, const std::string& where) {
  return Regex::compile(pattern, where, RegexDialect::kPython, RegexExtent::kWhole);
}

// The whole name, or its end after a dot.
bool names_module(const std::string& name, const std::string& module) {
  return module == name || module.ends_with("." + name);
}

bool any_names(const std::vector<std::string>& names, const std::string& module) {
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return names_module(name, module); });
}

Result<void> add_pattern(const std::string& pattern, const std::string& where,
                         std::vector<ModulePattern>& patterns) {
  if (pattern.empty()) return {};
  auto compiled = ModulePattern::of_names(pattern, where);
  if (!compiled) return compiled.error();
  patterns.push_back(*std::move(compiled));
  return {};
}

template <class Value>
Result<void> add_values(const std::vector<std::pair<std::string, Value>>& from,
                        const std::string& where,
                        std::vector<std::pair<ModulePattern, Value>>& to) {
  for (const auto& [key, value] : from) {
    auto pattern = ModulePattern::of_ends(key, where);
    if (!pattern) return pattern.error();
    to.emplace_back(*std::move(pattern), value);
  }
  return {};
}

Result<bool> any_fits(std::vector<ModulePattern>& patterns, const std::string& module) {
  for (ModulePattern& pattern : patterns) {
    auto fits = pattern.fits(module);
    if (!fits || *fits) return fits;
  }
  return false;
}

template <class Value>
Result<Value> first_value(std::vector<std::pair<ModulePattern, Value>>& patterns,
                          const std::string& module, Value otherwise) {
  for (auto& [pattern, value] : patterns) {
    const auto fits = pattern.fits(module);
    if (!fits) return fits.error();
    if (*fits) return value;
  }
  return otherwise;
}

}  // namespace

bool is_regex(std::string_view text) {
  return text.find_first_of("\\^$*+?()[]{}|") != std::string_view::npos;
}

Result<ModulePattern> ModulePattern::of_names(const std::string& pattern,
                                              const std::string& where) {
  const auto regex = compile(pattern, where);
  if (!regex) return regex.error();
  return ModulePattern(*regex);
}

Result<ModulePattern> ModulePattern::of_ends(const std::string& pattern, const std::string& where) {
  const auto regex = compile(R"((.*\.)?()" + pattern + ")$", where);
  if (!regex) return regex.error();
  return ModulePattern(*regex);
}

Result<bool> ModulePattern::fits(const std::string& module) {
  const auto match = matcher_.find(module, 0);
  if (!match) return match.error();
  return match->has_value();
}

Result<AdapterNames> AdapterNames::read(const AdapterConfig& config,
                                        const std::string& layer_prefix, const std::string& where) {
  // `model.layers.` is found by `layers`.
  const std::string list = layer_prefix.substr(0, layer_prefix.size() - 1);
  const bool finds_layers = config.layers_pattern.empty() || any_names(config.layers_pattern, list);
  AdapterNames names(config, finds_layers);
  const auto place = [&](const char* key) { return json_detail::child(where, key); };
  const auto results = {
      add_pattern(config.target_pattern, place("target_modules"), names.targets_),
      add_pattern(config.exclude_pattern, place("exclude_modules"), names.excluded_),
      add_values(config.rank_pattern, place("rank_pattern"), names.ranks_),
      add_values(config.alpha_pattern, place("alpha_pattern"), names.alphas_)};
  for (const Result<void>& result : results) {
    if (!result) return result.error();
  }
  return names;
}

bool AdapterNames::in_layers(const ModuleName& module) const {
  if (config_.layers.empty()) return true;
  return finds_layers_ && module.layer >= 0 &&
         std::find(config_.layers.begin(), config_.layers.end(), module.layer) !=
             config_.layers.end();
}

Result<bool> AdapterNames::targets(const ModuleName& module) {
  if (any_names(config_.excluded, module.name)) return false;
  const auto excluded = any_fits(excluded_, module.name);
  if (!excluded) return excluded.error();
  if (*excluded) return false;
  if (!targets_.empty()) return any_fits(targets_, module.name);
  const std::vector<std::string>& named = config_.targets;
  if (named == std::vector<std::string>{kAllLinear}) return module.layer >= 0;
  // Whole names hold whatever the layer.
  if (std::find(named.begin(), named.end(), module.name) != named.end()) return true;
  return any_names(named, module.name) && in_layers(module);
}

Result<std::int64_t> AdapterNames::rank(const std::string& module) {
  return first_value(ranks_, module, config_.rank);
}

Result<double> AdapterNames::alpha(const std::string& module) {
  return first_value(alphas_, module, config_.alpha);
}

}  // namespace ftplan::models

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/regex.h"
#include "core/result.h"
#include "models/adapter_config.h"

/// Which modules the options of an adapter name. Modules have their whole names in the model, such
/// as `model.layers.3.self_attn.q_proj`.
/// @source PEFT 0.21.2 `tuners/tuners_utils.py` (check_target_module_exists), `utils/other.py`
/// (get_pattern_key, match_target_against_key)
namespace ftplan::models {

/// Whether a text can only be a regular expression, and no list of names.
bool is_regex(std::string_view text);

/// A regular expression in Python's syntax for names of modules.
class ModulePattern {
 public:
  /// Of whole names, as `target_modules` and `exclude_modules` have it.
  static Result<ModulePattern> of_names(const std::string& pattern, const std::string& where);
  /// Of whole names or what follows a dot in them, as keys of `rank_pattern` have it.
  static Result<ModulePattern> of_ends(const std::string& pattern, const std::string& where);

  /// @error bad input: the pattern takes too many steps on this name
  Result<bool> fits(const std::string& module);

 private:
  explicit ModulePattern(const Regex& regex) : matcher_(regex) {}
  RegexMatcher matcher_;
};

/// A module of the model that can be adapted.
struct ModuleName {
  std::string name;
  std::int64_t layer = -1;  ///< -1 beside the layers
};

/// The options of one adapter, ready to be asked.
class AdapterNames {
 public:
  /// @param layer_prefix before the number of a layer, such as `model.layers.`
  /// @error bad input: a pattern that is no regular expression
  static Result<AdapterNames> read(const AdapterConfig& config, const std::string& layer_prefix,
                                   const std::string& where);

  /// Whether a target names it and nothing takes it out. `all-linear` names what is in a layer.
  Result<bool> targets(const ModuleName& module);
  /// Its own rank and alpha, where a pattern has it.
  Result<std::int64_t> rank(const std::string& module);
  Result<double> alpha(const std::string& module);

 private:
  template <class Value>
  using Patterns = std::vector<std::pair<ModulePattern, Value>>;

  AdapterNames(const AdapterConfig& config, bool finds_layers)
      : config_(config), finds_layers_(finds_layers) {}

  [[nodiscard]] bool in_layers(const ModuleName& module) const;

  AdapterConfig config_;
  bool finds_layers_;                   // with `layers_pattern`
  std::vector<ModulePattern> targets_;  // none or one, as the next
  std::vector<ModulePattern> excluded_;
  Patterns<std::int64_t> ranks_;
  Patterns<double> alphas_;
};

}  // namespace ftplan::models

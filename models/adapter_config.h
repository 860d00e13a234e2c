#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/model_config.h"
#include "core/result.h"
#include "models/family.h"

/// `adapter_config.json` of PEFT: which linears have LoRA matrices, and how these are scaled.
/// @source PEFT 0.21.2 `tuners/lora/config.py`, `tuners/tuners_utils.py`
/// (check_target_module_exists)
namespace ftplan::models {

inline constexpr const char* kAdapterConfigFile = "adapter_config.json";
inline constexpr const char* kAllLinear = "all-linear";

struct AdapterConfig {
  std::string base_model;  ///< what its maker called the base model; for people
  std::int64_t rank = 8;
  double alpha = 8;
  double dropout = 0;
  bool rslora = false;
  std::vector<std::string> targets;  ///< ends of module names, whole ones, or only `all-linear`
  /// Ranks and alphas of modules that differ, by ends of module names or regular expressions for
  /// them; the first that fits holds.
  std::vector<std::pair<std::string, std::int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  std::vector<std::string> modules_to_save;  ///< ends of names of modules trained in full
  bool ensure_weight_tying = false;          ///< a tied head stays its embedding among them
  /// In place of `targets`: a regular expression, in Python's syntax, of whole module names.
  std::string target_pattern;
  std::vector<std::string> excluded;  ///< ends of module names that are no targets
  std::string exclude_pattern;        ///< in place of `excluded`, as `target_pattern`
  std::vector<std::int64_t> layers;   ///< what ends of names find is only there; empty: everywhere
  std::vector<std::string> layers_pattern;  ///< how the list of these layers is called; empty: any

  friend bool operator==(const AdapterConfig&, const AdapterConfig&) = default;
};

/// @error bad input that names the key; options that change what an adapter computes, and that
/// ftplan does not know, are
///        refused, also those of PEFT versions to come
Result<AdapterConfig> read_adapter_config(std::string_view json_text, const std::string& where);

/// Only the keys that old versions of PEFT know too, and the options in use.
std::string render_adapter_config(const AdapterConfig& config, Family family);

/// A linear of a layer, the embedding or the head; `linear` indexes `adapted_names`.
struct AdaptedLinear {
  std::int64_t layer = 0;  ///< 0 for the edges
  int linear = 0;
  std::int64_t rank = 0;
  double alpha = 0;

  /// What the product of the matrices is multiplied with: alpha / rank, or alpha / sqrt(rank).
  [[nodiscard]] double scaling(bool rslora) const;
  friend bool operator==(const AdaptedLinear&, const AdaptedLinear&) = default;
};

/// What the targets name: linears layer by layer, then the embedding and the head.
/// @error a target that names a router or an expert, or targets that name nothing; a pattern that
/// is no regular expression
Result<std::vector<AdaptedLinear>> adapted_linears(const AdapterConfig& config,
                                                   const ModelConfig& model,
                                                   const std::string& where);

/// The weights that take the place of the base's: those of modules trained in full, with their
/// whole names. A tied head is its embedding.
/// @error bad input: a module that cannot be trained in full
Result<std::vector<Weight>> saved_weights(const AdapterConfig& config, const ModelConfig& model,
                                          const std::string& where);

/// The modules of `saved_weights`, as `resolve_modules` names them.
Result<std::vector<std::string>> saved_modules(const AdapterConfig& config,
                                               const ModelConfig& model, const std::string& where);

/// What one layer has that is adapted, then the edges.
struct LayerAdapters {
  std::vector<AdaptedLinear> linears;
  std::vector<std::int64_t> layers;  ///< that have them, ascending; empty: all
};

/// The adapted linears, when all layers that have any have the same ones.
/// @error layers that differ from each other
Result<LayerAdapters> same_in_layers(const std::vector<AdaptedLinear>& adapted,
                                     const ModelConfig& model, const std::string& where);

}  // namespace ftplan::models

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "models/family.h"

/// One family as data: docs/families.md says how to add one.
namespace ftplan::models {

/// A key of `config.json` that only some families have.
struct FlagKey {
  const char* key;
  bool ModelConfig::* member;
};

struct IntegerKey {
  const char* key;
  std::int64_t ModelConfig::* member;
};

struct NumberKey {
  const char* key;
  double ModelConfig::* member;  ///< 0 where the key is null
};

/// Keys that some families call otherwise.
struct KeyNames {
  const char* kv_heads = "num_key_value_heads";
  const char* intermediate = "intermediate_size";
  const char* norm_epsilon = "rms_norm_eps";
};

/// A key that transformers reads no more, and the one that it reads.
struct RenamedKey {
  const char* old;
  const char* now;
};

/// A key whose value must be the one that ftplan computes with.
struct OnlyValue {
  const char* key;
  Json value;  ///< text, integer, number, true or false
  const char* reason;
};

/// Which keys say what a query sees.
enum class WindowRule : std::uint8_t {
  kNone,         ///< everything before it
  kEveryLayer,   ///< `sliding_window` tokens; null: everything
  kFromLayer,    ///< if `use_sliding_window`, from `max_window_layers` on, or as `layer_types` says
  kEverySecond,  ///< the first layer and every second after it, or as `layer_types` says
};

/// Which rotary scalings there are, and of what.
enum class RopeRule : std::uint8_t {
  kAny,   ///< each, of whole heads
  kPhi3,  ///< none or longrope, of whole heads or their leading part
};

struct FamilyRow {
  Family family = Family::kLlama;
  const char* model_type = "";            ///< in `config.json`
  std::vector<const char*> former_types;  ///< which transformers reads no more
  const char* stem = "";  ///< of its classes: "Llama" of LlamaForCausalLM and LlamaModel
  /// Those of its configuration class in transformers. `kv_heads` 0: as many as heads; `head_size`
  /// 0: hidden / heads; `intermediate` 0: 4 * hidden.
  ModelConfig defaults;
  bool heads_divide_hidden = false;  ///< transformers refuses others also when `head_dim` is given
  WindowRule windows = WindowRule::kNone;
  RopeRule rope = RopeRule::kAny;
  KeyNames keys;
  std::vector<IntegerKey> integers;  ///< a null one is as none
  std::vector<FlagKey> flags;
  std::vector<NumberKey> numbers;
  std::vector<OnlyValue> only;
  std::vector<RenamedKey> renamed;
  /// Reads what keys say together; null where each speaks for itself. `resolved` are these keys.
  Result<ModelConfig> (*resolve)(ModelConfig, const Json&, const std::string& where) = nullptr;
  std::vector<const char*> resolved;
  Blueprint (*blueprint)(const ModelConfig&) = nullptr;
};

/// All families that ftplan knows, in the order of `Family`.
const std::vector<FamilyRow>& families();
const FamilyRow& row_of(Family family);
/// Null when no family has this `model_type`.
const FamilyRow* find_family(const std::string& model_type);

// One for each file.
FamilyRow llama_family();
FamilyRow mistral_family();
FamilyRow qwen2_family();
FamilyRow qwen3_family();
FamilyRow phi3_family();
FamilyRow gemma2_family();
FamilyRow falcon_family();
FamilyRow mixtral_family();

/// `hidden_act` of most families.
OnlyValue only_silu();

}  // namespace ftplan::models

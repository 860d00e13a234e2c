#include <cstddef>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/model_config.h"
#include "models/family_row.h"

namespace ftplan::models {

const std::vector<FamilyRow>& families() {
  static const std::vector<FamilyRow> kFamilies = {
      llama_family(), mistral_family(), qwen2_family(),  qwen3_family(),
      phi3_family(),  gemma2_family(),  falcon_family(), mixtral_family()};
  return kFamilies;
}

const FamilyRow& row_of(Family family) {
  const FamilyRow& row = families().at(static_cast<std::size_t>(family));
  FTPLAN_CHECK(row.family == family);
  return row;
}

const FamilyRow* find_family(const std::string& model_type) {
  for (const FamilyRow& row : families()) {
    if (row.model_type == model_type) return &row;
  }
  return nullptr;
}

OnlyValue only_silu() { return {"hidden_act", "silu", "other activations are not built yet"}; }

}  // namespace ftplan::models

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/model_config.h"
#include "core/result.h"
#include "core/shape.h"
#include "core/text.h"
#include "models/checkpoint.h"
#include "models/convert.h"
#include "models/family.h"
#include "models/files.h"
#include "models/safetensors.h"
#include "models/stored_linear.h"

namespace ftplan::models {
namespace {

constexpr std::string_view kHead = kUntiedHead;

// Complaints of one kind, of which the first few are shown.
struct Complaints {
  std::vector<std::string> items;

  [[nodiscard]] std::string text(const std::string& kind) const {
    constexpr std::size_t kShown = 3;
    const std::vector<std::string> shown(
        items.begin(), items.begin() + static_cast<std::ptrdiff_t>(std::min(kShown, items.size())));
    std::string all = kind + " " + join(shown, ", ");
    if (items.size() > kShown) all += " and " + std::to_string(items.size() - kShown) + " more";
    return all;
  }
};

struct Findings {
  Complaints wrong, missing, unexpected;

  [[nodiscard]] std::string text() const {
    std::vector<std::string> kinds;
    if (!wrong.items.empty()) kinds.push_back(wrong.text("wrong:"));
    if (!missing.items.empty()) kinds.push_back(missing.text("missing:"));
    if (!unexpected.items.empty()) kinds.push_back(unexpected.text("unexpected:"));
    return join(kinds, "; ");
  }
};

void check_tensor(const TensorView& tensor, const std::string& name, const Shape& expected,
                  Complaints& wrong) {
  const auto shape = tensor.shape();
  if (!shape || !(*shape == expected)) {
    wrong.items.push_back(name + " is " + tensor.shape_text() + ", expected " + expected.text());
  } else if (const auto dtype = tensor.dtype(); !dtype || !is_float(*dtype)) {
    wrong.items.push_back(name + " is " + tensor.file_dtype->name + ", expected F32, F16 or BF16");
  }
}

bool is_ignored(std::string_view name, const ModelConfig& config) {
  return name.ends_with(".rotary_emb.inv_freq") || (config.tied_embeddings && name == kHead);
}

bool equal_bytes(const TensorView& a, const TensorView& b) {
  return a.file_dtype == b.file_dtype && a.extents == b.extents &&
         (a.bytes.empty() || std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0);
}

// transformers ties the two only if they are equal; a model that would not be tied there must not
// be tied here.
Result<void> check_tied_head(const Checkpoint& checkpoint, const Blueprint& blueprint) {
  const TensorView* head = checkpoint.find(kHead);
  const TensorView* embedding = checkpoint.find(blueprint.embedding.name);
  if (head == nullptr) return {};
  const bool equal = equal_bytes(*head, *embedding);
  head->release();
  embedding->release();
  if (equal) return {};
  return bad_input(checkpoint.folder(),
                   std::string(kHead) + " differs from " + blueprint.embedding.name +
                       ", but config.json ties them: set tie_word_embeddings to false");
}

}  // namespace

Result<void> check_weights(const Checkpoint& checkpoint, const ModelConfig& model) {
  const ModelConfig config = as_stored(model);
  const Blueprint blueprint = make_blueprint(config);
  Findings findings;
  std::unordered_set<std::string> expected;
  const bool plain = config.stored_linears == StoredLinears::kPlain;
  for (const Weight& weight : all_weights(blueprint, config)) {
    if (!plain && weight.kind == WeightKind::kMatrix) {
      if (auto ok = check_stored_linear(checkpoint, weight, config.stored_linears); !ok) return ok;
      for (std::string& name : stored_names(weight.name, config.stored_linears))
        expected.insert(std::move(name));
      continue;
    }
    expected.insert(weight.name);
    if (const TensorView* tensor = checkpoint.find(weight.name)) {
      check_tensor(*tensor, weight.name, weight.shape, findings.wrong);
    } else {
      findings.missing.items.push_back(weight.name + " " + weight.shape.text());
    }
  }
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (expected.contains(name) || is_ignored(name, config)) continue;
    findings.unexpected.items.push_back(in_quotes(name) + " " + tensor->shape_text());
  }
  std::sort(findings.unexpected.items.begin(), findings.unexpected.items.end());
  const std::string text = findings.text();
  if (!text.empty()) {
    return bad_input(checkpoint.folder(), "the weights are not those of config.json: " + text);
  }
  return config.tied_embeddings ? check_tied_head(checkpoint, blueprint) : Result<void>();
}

}  // namespace ftplan::models

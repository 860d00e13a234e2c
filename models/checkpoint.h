#pragma once

#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/model_config.h"
#include "core/result.h"
#include "models/family.h"
#include "models/safetensors.h"

/// The weights in a model folder, one file or many, looked up by name.
namespace ftplan::models {

/// Copies are cheap and share the mappings.
class Checkpoint {
 public:
  /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names.
  /// @error bad input: which file is missing or broken; where there are only `.bin` files, how to
  /// convert them
  static Result<Checkpoint> open(const std::string& folder);

  [[nodiscard]] const std::string& folder() const { return folder_; }
  [[nodiscard]] const std::vector<SafetensorsFile>& files() const { return files_; }
  [[nodiscard]] bool sharded() const { return sharded_; }

  /// The tensor that a model calls `name`, such as `model.norm.weight`; null when it is not there.
  /// In a checkpoint of the base model alone, as transformers writes for `LlamaModel`, that is the
  /// tensor `norm.weight`.
  [[nodiscard]] const TensorView* find(std::string_view name) const;

  /// All tensors under the names that `find` takes, in no particular order.
  [[nodiscard]] const std::unordered_map<std::string, const TensorView*>& tensors() const {
    return tensors_;
  }

 private:
  using ShardOf = std::map<std::string, std::string>;
  Result<ShardOf> open_shards(const std::string& index);
  Result<void> gather(const ShardOf& shard_of);

  std::string folder_;
  bool sharded_ = false;
  std::vector<SafetensorsFile> files_;
  std::unordered_map<std::string, const TensorView*> tensors_;
};

/// Whether the checkpoint holds exactly the weights of the model, of new tokens no rows. Accepted
/// beyond them: `rotary_emb.inv_freq`, which old checkpoints carry, and a head that equals the
/// embedding where the two are tied.
/// @error bad input that names the first tensors of each kind: wrong (with both shapes), missing,
/// unexpected
Result<void> check_weights(const Checkpoint& checkpoint, const ModelConfig& model);

}  // namespace ftplan::models

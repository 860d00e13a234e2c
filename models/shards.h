#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/result.h"
#include "core/units.h"
#include "models/safetensors_header.h"
#include "models/safetensors_writer.h"

/// A checkpoint cut into files of bounded size, with the index that says which tensor is where.
/// @source transformers 5.23 `modeling_utils.py` (save_pretrained), huggingface_hub 1.33
/// `serialization/_base.py`
namespace ftplan::models {

inline constexpr const char* kSingleFile = "model.safetensors";
inline constexpr const char* kIndexFile = "model.safetensors.index.json";

/// transformers' own limit for the bytes of a shard's tensors.
inline constexpr Bytes kDefaultShardSize{50'000'000'000};

struct Shard {
  std::string file;
  std::vector<TensorSpec> specs;
};

/// What will be written, before anything is.
struct ShardPlan {
  std::vector<Shard> shards;
  std::int64_t parameters = 0;  ///< goes into the index, as transformers does

  [[nodiscard]] bool sharded() const { return shards.size() > 1; }
  /// Bytes of all tensors, headers left out.
  [[nodiscard]] Bytes tensor_bytes() const;
  /// Exact bytes on disk of all shards and the index.
  [[nodiscard]] Bytes disk_bytes(const Metadata& metadata = torch_metadata()) const;
};

/// Fills shards in the order of `specs` until one more tensor would pass `largest`; a tensor larger
/// than that has a shard of its own. One shard is `model.safetensors` without an index.
ShardPlan plan_shards(const std::vector<TensorSpec>& specs, Bytes largest = kDefaultShardSize);

/// Text of `model.safetensors.index.json`, byte equal to transformers'.
std::string render_index(const ShardPlan& plan);

/// `weight_map` of an index: tensor to file.
/// @error a form that is not an index, or a file outside the folder
Result<std::map<std::string, std::string>> parse_index(std::string_view text,
                                                       const std::string& where);

/// Writes a planned checkpoint. A shard gets its name once it is complete, the index once all are.
class ShardedWriter {
 public:
  /// @error run failed: the folder has no room for all of it
  static Result<ShardedWriter> create(const std::string& folder, ShardPlan plan,
                                      const Metadata& metadata = torch_metadata());

  /// The next bytes of a tensor; tensors in any order, though only those of one shard at a time
  /// keep few files open.
  Result<void> write(std::string_view name, std::span<const std::byte> bytes);

  /// Writes the index, and the shards without bytes.
  /// @pre every tensor has been written
  Result<void> finish();

 private:
  ShardedWriter(std::string folder, ShardPlan plan, Metadata metadata);
  Result<void> open_shard(std::size_t shard);

  std::string folder_;
  ShardPlan plan_;
  Metadata metadata_;
  std::unordered_map<std::string, std::size_t> shard_of_;
  std::unordered_map<std::size_t, SafetensorsWriter> open_;
  std::vector<bool> done_;
};

}  // namespace ftplan::models

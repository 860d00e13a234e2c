#include "models/checkpoint.h"

#include <array>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "models/family.h"
#include "models/files.h"
#include "models/safetensors.h"
#include "models/shards.h"

namespace ftplan::models {
namespace {

// What a checkpoint of the base model alone leaves out of its names, all but the head's.
struct BaseNames {
  const char* embedding;  // by which it is known
  const char* prefix;
};
constexpr std::array kBaseNames = {BaseNames{"embed_tokens.weight", "model."},
                                   BaseNames{"word_embeddings.weight", "transformer."}};

// Weights that PyTorch's pickle holds; it can run code when it is read, so ftplan does not.
constexpr std::array kPickledFiles = {"pytorch_model.bin", "pytorch_model.bin.index.json"};

Error no_weights(const std::string& folder) {
  for (const char* name : kPickledFiles) {
    if (!is_file(join_path(folder, name))) continue;
    return bad_input(folder, std::string("has its weights in ") + name +
                                 ", ftplan reads safetensors: convert them with python -c \"from "
                                 "transformers import AutoModelForCausalLM as M; "
                                 "M.from_pretrained('" +
                                 folder + "', dtype='auto').save_pretrained('NEW_FOLDER')\"");
  }
  return bad_input(folder,
                   std::string("has no weights: expected ") + kSingleFile + " or " + kIndexFile);
}

}  // namespace

Result<Checkpoint> Checkpoint::open(const std::string& folder) {
  if (!is_folder(folder)) return bad_input(folder, "is not a folder");
  Checkpoint checkpoint;
  checkpoint.folder_ = folder;
  const std::string single = join_path(folder, kSingleFile);
  const std::string index = join_path(folder, kIndexFile);
  ShardOf shard_of;
  if (is_file(single)) {
    auto file = SafetensorsFile::open(single);
    if (!file) return file.error();
    checkpoint.files_.push_back(*std::move(file));
  } else if (is_file(index)) {
    auto opened = checkpoint.open_shards(index);
    if (!opened) return opened.error();
    shard_of = *std::move(opened);
  } else {
    return no_weights(folder);
  }
  if (auto gathered = checkpoint.gather(shard_of); !gathered) return gathered.error();
  return checkpoint;
}

Result<Checkpoint::ShardOf> Checkpoint::open_shards(const std::string& index) {
  sharded_ = true;
  const auto text = read_text_file(index);
  if (!text) return text.error();
  auto shard_of = parse_index(*text, index);
  if (!shard_of) return shard_of;

  ShardOf first_tensor;  // of each shard, to say why it is needed
  for (const auto& [tensor, shard] : *shard_of) first_tensor.try_emplace(shard, tensor);
  for (const auto& [shard, tensor] : first_tensor) {
    const std::string path = join_path(folder_, shard);
    if (!is_file(path)) {
      return bad_input(path, std::string("is missing: ") + kIndexFile + " expects " +
                                 in_quotes(tensor) + " in it");
    }
    auto file = SafetensorsFile::open(path);
    if (!file) return file.error();
    files_.push_back(*std::move(file));
  }
  return shard_of;
}

Result<void> Checkpoint::gather(const ShardOf& shard_of) {
  std::map<std::string_view, const TensorView*> found;
  std::map<std::string_view, const SafetensorsFile*> by_path;
  for (const SafetensorsFile& file : files_) {
    by_path[file.path()] = &file;
    for (const TensorView& tensor : file.tensors()) found.insert_or_assign(tensor.name, &tensor);
  }
  // Two shards may hold the same name: the index decides.
  for (const auto& [name, shard] : shard_of) {
    const std::string path = join_path(folder_, shard);
    const TensorView* tensor = by_path.at(path)->find(name);
    if (tensor == nullptr) {
      return bad_input(
          path, "lacks the tensor " + in_quotes(name) + " that " + kIndexFile + " expects in it");
    }
    found[name] = tensor;
  }
  std::string prefix;
  for (const BaseNames& base : kBaseNames) {
    if (found.contains(base.embedding)) prefix = base.prefix;
  }
  for (const auto& [name, tensor] : found) {
    const bool is_short = !name.starts_with(prefix) && name != kUntiedHead;
    tensors_.emplace((is_short ? prefix : std::string()) + std::string(name), tensor);
  }
  return {};
}

const TensorView* Checkpoint::find(std::string_view name) const {
  const auto entry = tensors_.find(std::string(name));
  return entry == tensors_.end() ? nullptr : entry->second;
}

}  // namespace ftplan::models

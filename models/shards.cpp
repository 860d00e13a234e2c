#include "models/shards.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/json.h"
#include "core/result.h"
#include "core/text.h"
#include "core/units.h"
#include "models/files.h"
#include "models/output_file.h"
#include "models/safetensors_header.h"
#include "models/safetensors_writer.h"

namespace ftplan::models {
namespace {

// `model-00002-of-00015.safetensors`
std::string shard_name(std::size_t index, std::size_t count) {
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name.data();
}

Bytes sum_bytes(const std::vector<TensorSpec>& specs) {
  Bytes sum;
  for (const TensorSpec& spec : specs) sum += spec.bytes();
  return sum;
}

// A reader takes the single file where there is one, so two checkpoints in a folder would be a
// trap.
Result<void> check_folder_is_free(const std::string& folder, const ShardPlan& plan) {
  const std::string other = join_path(folder, plan.sharded() ? kSingleFile : kIndexFile);
  if (!is_file(other)) return {};
  return bad_input(other,
                   "belongs to another checkpoint: remove it, or write into an empty folder");
}

}  // namespace

Bytes ShardPlan::tensor_bytes() const {
  Bytes sum;
  for (const Shard& shard : shards) sum += sum_bytes(shard.specs);
  return sum;
}

Bytes ShardPlan::disk_bytes(const Metadata& metadata) const {
  Bytes sum;
  for (const Shard& shard : shards) sum += file_size(shard.specs, metadata);
  if (sharded()) sum += Bytes{static_cast<std::int64_t>(render_index(*this).size())};
  return sum;
}

ShardPlan plan_shards(const std::vector<TensorSpec>& specs, Bytes largest) {
  ShardPlan plan;
  std::vector<TensorSpec> current;
  Bytes current_bytes;
  for (const TensorSpec& spec : specs) {
    plan.parameters += spec.shape.elements();
    if (spec.bytes() > largest) {
      plan.shards.push_back(
          {"", {spec}});  // the current shard goes on behind it, as in the reference
      continue;
    }
    if (current_bytes + spec.bytes() > largest) {
      plan.shards.push_back({"", std::exchange(current, {})});
      current_bytes = {};
    }
    current.push_back(spec);
    current_bytes += spec.bytes();
  }
  if (!current.empty() || plan.shards.empty()) plan.shards.push_back({"", std::move(current)});
  for (std::size_t i = 0; i < plan.shards.size(); ++i) {
    plan.shards[i].file = plan.sharded() ? shard_name(i, plan.shards.size()) : kSingleFile;
  }
  return plan;
}

std::string render_index(const ShardPlan& plan) {
  std::map<std::string, std::string> sorted;
  for (const Shard& shard : plan.shards) {
    for (const TensorSpec& spec : shard.specs) sorted[spec.name] = shard.file;
  }
  Json index;
  index["metadata"]["total_parameters"] = plan.parameters;
  index["metadata"]["total_size"] = plan.tensor_bytes().value;
  Json& map = index["weight_map"] = Json::object();
  auto& entries = map.get_ref<Json::object_t&>();
  // Appended directly: an ordered object looks through all its keys for each one that is set.
  for (auto& [name, file] : sorted) entries.Container::emplace_back(name, file);
  return index.dump(2, ' ', /*ensure_ascii=*/true) + "\n";
}

Result<std::map<std::string, std::string>> parse_index(std::string_view text,
                                                       const std::string& where) {
  const auto json = parse_json(text, where);
  if (!json) return json.error();
  const std::string place = json_detail::child(where, "weight_map");
  if (!json->is_object() || !json->contains("weight_map")) return bad_input(place, "missing");
  const Json& map = (*json)["weight_map"];
  if (!map.is_object()) return json_detail::wrong(place, map, "an object");
  std::map<std::string, std::string> files;
  for (const auto& entry : map.items()) {
    const std::string tensor = json_detail::child(place, entry.key());
    if (!entry.value().is_string()) return json_detail::wrong(tensor, entry.value(), "a file name");
    const auto file = entry.value().get<std::string>();
    if (!stays_inside(file)) return bad_input(tensor, in_quotes(file) + " leaves the model folder");
    files.emplace(entry.key(), file);
  }
  if (files.empty()) return bad_input(place, "names no tensor");
  return files;
}

ShardedWriter::ShardedWriter(std::string folder, ShardPlan plan, Metadata metadata)
    : folder_(std::move(folder)),
      plan_(std::move(plan)),
      metadata_(std::move(metadata)),
      done_(plan_.shards.size()) {
  for (std::size_t i = 0; i < plan_.shards.size(); ++i) {
    for (const TensorSpec& spec : plan_.shards[i].specs) {
      FTPLAN_CHECK(shard_of_.try_emplace(spec.name, i).second);
    }
  }
}

Result<ShardedWriter> ShardedWriter::create(const std::string& folder, ShardPlan plan,
                                            const Metadata& metadata) {
  if (auto made = make_folder(folder); !made) return made.error();
  if (auto free = check_folder_is_free(folder, plan); !free) return free.error();
  const auto free = free_space(folder);
  if (!free) return free.error();
  const Bytes needed = plan.disk_bytes(metadata);
  if (*free < needed) {
    return run_failed(folder, "the disk is full: " + format_bytes(needed) + " needed, " +
                                  format_bytes(*free) + " free, " + format_bytes(needed - *free) +
                                  " missing");
  }
  return ShardedWriter(folder, std::move(plan), metadata);
}

Result<void> ShardedWriter::open_shard(std::size_t shard) {
  const Shard& planned = plan_.shards[shard];
  auto writer =
      SafetensorsWriter::create(join_path(folder_, planned.file), planned.specs, metadata_);
  if (!writer) return writer.error();
  open_.emplace(shard, *std::move(writer));
  return {};
}

Result<void> ShardedWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  const auto entry = shard_of_.find(std::string(name));
  FTPLAN_CHECK(entry != shard_of_.end());
  const std::size_t shard = entry->second;
  if (bytes.empty()) return {};
  FTPLAN_CHECK(!done_[shard]);
  if (!open_.contains(shard)) {
    if (auto opened = open_shard(shard); !opened) return opened;
  }
  SafetensorsWriter& writer = open_.at(shard);
  if (auto written = writer.write(name, bytes); !written) return written;
  if (!writer.complete()) return {};
  if (auto finished = writer.finish(); !finished) return finished;
  open_.erase(shard);
  done_[shard] = true;
  return {};
}

Result<void> ShardedWriter::finish() {
  FTPLAN_CHECK(open_.empty());
  for (std::size_t shard = 0; shard < done_.size(); ++shard) {
    if (done_[shard]) continue;
    if (auto opened = open_shard(shard); !opened) return opened;
    if (auto finished = open_.at(shard).finish(); !finished) return finished;
    open_.erase(shard);
    done_[shard] = true;
  }
  if (!plan_.sharded()) return {};
  return write_text_file(join_path(folder_, kIndexFile), render_index(plan_));
}

}  // namespace ftplan::models

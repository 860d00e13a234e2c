#include "executor/checkpointing.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "core/category.h"
#include "core/digest.h"
#include "core/loss_scale.h"
#include "core/result.h"
#include "core/units.h"
#include "executor/rank_run.h"
#include "models/safetensors.h"
#include "models/safetensors_header.h"
#include "models/safetensors_writer.h"
#include "program/run_files.h"

namespace ftplan::executor {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "step-";
constexpr const char* kSuffix = ".safetensors";

std::string name_of(std::int64_t step) {
  std::array<char, 48> name{};
  (void)std::snprintf(name.data(), name.size(), "%s%012lld%s", kPrefix,
                      static_cast<long long>(step), kSuffix);
  return name.data();
}

// Names sort as their steps do.
std::vector<fs::path> checkpoints_in(const std::string& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kPrefix) && name.ends_with(kSuffix)) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string metadata_of(const models::SafetensorsFile& file, const std::string& key) {
  for (const auto& [name, value] : file.metadata()) {
    if (name == key) return value;
  }
  return {};
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string state_digest(const RankRun& run) {
  Digester digester;
  for (const auto& tensor : run.state_tensors()) digester.add(text_of(run.state(tensor)));
  if (run.loss_scale()) digester.add(to_text(*run.loss_scale()));
  return digester.hex();
}

}  // namespace

Result<void> save_checkpoint(const RankRun& run, const std::string& folder, std::int64_t step,
                             const std::string& plan_digest) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return run_failed(folder, "cannot be made: " + error.message());
  std::vector<models::TensorSpec> specs;
  for (const auto& tensor : run.state_tensors()) specs.push_back(tensor.spec);
  const std::string path = (fs::path(folder) / name_of(step)).string();
  auto writer = models::SafetensorsWriter::create(
      path, specs,
      program::checkpoint_metadata(step, plan_digest, state_digest(run), run.loss_scale()));
  if (!writer) return writer.error();
  for (const auto& tensor : run.state_tensors()) {
    if (auto ok = writer->write(tensor.spec.name, run.state(tensor)); !ok) return ok.error();
  }
  if (auto ok = writer->finish(); !ok) return ok.error();
  for (const fs::path& other : checkpoints_in(folder)) {
    if (other.filename() != name_of(step)) fs::remove(other, error);
  }
  return {};
}

Result<std::optional<CheckpointFile>> newest_checkpoint(const std::string& folder,
                                                        const std::string& plan_digest) {
  const auto found = checkpoints_in(folder);
  if (found.empty()) return std::optional<CheckpointFile>{};
  const std::string path = found.back().string();
  auto file = models::SafetensorsFile::open(path);
  if (!file)
    return bad_input(path, file.error().message + "; remove it to start from the first step again");
  if (metadata_of(*file, "plan") != plan_digest) {
    return bad_input(
        path, "belongs to a run of another plan: choose another --output, or remove the folder");
  }
  return std::optional<CheckpointFile>({path, std::stoll("0" + metadata_of(*file, "step"))});
}

Result<void> restore_checkpoint(RankRun& run, const std::string& path) {
  auto file = models::SafetensorsFile::open(path);
  if (!file) return file.error();
  for (const auto& tensor : run.state_tensors()) {
    const models::TensorView* found = file->find(tensor.spec.name);
    const auto to = run.state(tensor);
    if (found == nullptr || found->bytes.size() != to.size()) {
      return bad_input(path, "does not hold " + tensor.spec.name + " as the plan has it");
    }
    std::memcpy(to.data(), found->bytes.data(), to.size());
  }
  if (run.loss_scale()) {
    const auto scale =
        parse_text(metadata_of(*file, "loss_scale"), static_cast<LossScale*>(nullptr));
    if (!scale) return bad_input(path, "does not hold the loss scale as the plan has it");
    run.restore(*scale);
  }
  if (state_digest(run) != metadata_of(*file, "digest")) {
    return bad_input(path,
                     "is damaged: its bytes are not those that were saved; remove it to start "
                     "from the first step again");
  }
  run.restore_weights();
  return {};
}

PlaceBytes checkpoint_disk_bytes(const std::string& folder, Category values) {
  PlaceBytes bytes;
  for (const fs::path& path : checkpoints_in(folder)) {
    const auto file = models::SafetensorsFile::open(path.string());
    if (!file) continue;
    for (const models::TensorView& tensor : file->tensors()) {
      const bool is_value = tensor.name.ends_with(".values");
      bytes[is_value ? values : Category::kOptimizer] +=
          Bytes{static_cast<std::int64_t>(tensor.bytes.size())};
    }
    std::error_code error;
    bytes.peak += Bytes{static_cast<std::int64_t>(fs::file_size(path, error))};
  }
  bytes.unused = bytes.peak - bytes.live();
  return bytes;
}

}  // namespace ftplan::executor

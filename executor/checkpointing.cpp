#include "executor/checkpointing.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/digest.h"
#include "core/result.h"
#include "core/units.h"
#include "executor/rank_run.h"
#include "models/files.h"
#include "models/safetensors.h"
#include "models/safetensors_header.h"
#include "models/safetensors_writer.h"
#include "program/run_files.h"

namespace ftplan::executor {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "step-";
constexpr const char* kSuffix = ".safetensors";
constexpr std::size_t kDigits = 12;

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Of what a file says and of the bytes that the run has.
std::string digest_of(const RankRun& run, const std::vector<program::StateTensor>& tensors,
                      const models::Metadata& metadata) {
  Digester digester;
  for (const auto& [name, value] : metadata) {
    if (name != "digest") digester.add(name + "=" + value + "\n");
  }
  for (const auto& tensor : tensors) digester.add(text_of(run.state(tensor)));
  return digester.hex();
}

PlaceBytes file_bytes(const std::string& path, const std::vector<program::StateTensor>& states) {
  PlaceBytes bytes;
  const auto file = models::SafetensorsFile::open(path);
  if (!file) return bytes;
  for (const models::TensorView& tensor : file->tensors()) {
    const auto state =
        std::find_if(states.begin(), states.end(),
                     [&](const program::StateTensor& one) { return one.spec.name == tensor.name; });
    if (state == states.end()) continue;
    bytes[state->category] += Bytes{static_cast<std::int64_t>(tensor.bytes.size())};
  }
  std::error_code error;
  bytes.peak = Bytes{static_cast<std::int64_t>(fs::file_size(path, error))};
  bytes.unused = bytes.peak - bytes.live();
  return bytes;
}

}  // namespace

Checkpoints::Checkpoints(std::string folder, std::string plan_digest)
    : folder_(std::move(folder)), plan_digest_(std::move(plan_digest)) {}

std::string Checkpoints::path_of(std::int64_t step) const {
  const std::string number = std::to_string(step);
  return models::join_path(
      folder_,
      kPrefix + std::string(kDigits - std::min(kDigits, number.size()), '0') + number + kSuffix);
}

std::string Checkpoints::best_path() const {
  return models::join_path(folder_, std::string("best") + kSuffix);
}

std::vector<Checkpoints::File> Checkpoints::files() const {
  std::vector<File> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) continue;
    File file{.path = entry.path().string()};
    const char* begin = name.data() + std::string_view(kPrefix).size();
    const char* end = name.data() + name.size() - std::string_view(kSuffix).size();
    const auto read = std::from_chars(begin, end, file.step);
    if (read.ec == std::errc() && read.ptr == end) found.push_back(std::move(file));
  }
  std::sort(found.begin(), found.end(),
            [](const File& a, const File& b) { return a.step < b.step; });
  return found;
}

Result<void> Checkpoints::write(const RankRun& run, const std::string& path,
                                const std::vector<program::StateTensor>& tensors,
                                const program::CheckpointState& state) const {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) return run_failed(folder_, "cannot be made: " + error.message());
  std::vector<models::TensorSpec> specs;
  for (const auto& tensor : tensors) specs.push_back(tensor.spec);
  const models::Metadata metadata = program::checkpoint_metadata(state, plan_digest_);
  auto writer = models::SafetensorsWriter::create(
      path, specs, program::with_digest(metadata, digest_of(run, tensors, metadata)));
  if (!writer) return writer.error();
  for (const auto& tensor : tensors) {
    if (auto ok = writer->write(tensor.spec.name, run.state(tensor)); !ok) return ok.error();
  }
  return writer->finish();
}

Result<program::CheckpointState> Checkpoints::read(RankRun& run, const std::string& path,
                                                   const std::vector<program::StateTensor>& tensors,
                                                   const std::string& way_out) const {
  auto file = models::SafetensorsFile::open(path);
  if (!file) return bad_input(path, file.error().message + "; " + way_out);
  if (models::value_of(file->metadata(), "plan") != plan_digest_) {
    return bad_input(
        path, "belongs to a run of another plan: choose another --output, or remove the folder");
  }
  for (const auto& tensor : tensors) {
    const models::TensorView* found = file->find(tensor.spec.name);
    const auto to = run.state(tensor);
    if (found == nullptr || found->bytes.size() != to.size()) {
      return bad_input(path, "does not hold " + tensor.spec.name + " as the plan has it");
    }
    std::memcpy(to.data(), found->bytes.data(), to.size());
  }
  const auto state = program::checkpoint_state(file->metadata());
  if (!state ||
      digest_of(run, tensors, file->metadata()) != models::value_of(file->metadata(), "digest")) {
    return bad_input(path, "is damaged: its bytes are not those that were saved; " + way_out);
  }
  run.restore_weights();
  return *state;
}

Result<void> Checkpoints::save(const RankRun& run, const program::CheckpointState& state) const {
  return write(run, path_of(state.step), run.state_tensors(), state);
}

Result<void> Checkpoints::save_best(const RankRun& run,
                                    const program::CheckpointState& state) const {
  return write(run, best_path(), program::best_tensors(run.state_tensors()), state);
}

void Checkpoints::prune(std::int64_t limit, const Belongs& belongs) const {
  std::vector<File> found = files();
  std::reverse(found.begin(), found.end());
  std::int64_t kept = 0;
  for (const File& file : found) {
    const bool counts = belongs(file.step);
    kept += counts ? 1 : 0;
    const bool newest = &file == &found.front();
    std::error_code error;
    if (!newest && (!counts || kept > limit)) fs::remove(file.path, error);
  }
}

Result<std::optional<program::CheckpointState>> Checkpoints::restore(RankRun& run) const {
  const std::vector<File> found = files();
  if (found.empty()) return std::optional<program::CheckpointState>{};
  const std::string before =
      found.size() == 1 ? "start from the first step again"
                        : "continue after step " + std::to_string(found[found.size() - 2].step);
  const std::string& path = found.back().path;
  auto state = read(run, path, run.state_tensors(), "remove it to " + before);
  if (!state) return state.error();
  if (run.loss_scale().has_value() != state->loss_scale.has_value())
    return bad_input(path, "does not hold the loss scale as the plan has it");
  if (state->loss_scale) run.restore(*state->loss_scale);
  return std::optional(*state);
}

Result<void> Checkpoints::check_best(std::int64_t step) const {
  const std::string way_out = "; to start from the first step again, remove " + folder_;
  const auto file = models::SafetensorsFile::open(best_path());
  if (!file) {
    return bad_input(best_path(), "the best state so far, that after step " + std::to_string(step) +
                                      ", cannot be read: " + file.error().message + way_out);
  }
  const auto state = program::checkpoint_state(file->metadata());
  if (!state || models::value_of(file->metadata(), "plan") != plan_digest_ || state->step < step) {
    return bad_input(best_path(), "is not the best state so far, that after step " +
                                      std::to_string(step) + way_out);
  }
  return {};
}

Result<void> Checkpoints::restore_best(RankRun& run, std::int64_t step) const {
  const auto state = read(run, best_path(), program::best_tensors(run.state_tensors()),
                          "to start from the first step again, remove " + folder_);
  if (!state) return state.error();
  if (state->step == step) return {};
  return bad_input(best_path(), "holds the state after step " + std::to_string(state->step) +
                                    ", expected that after step " + std::to_string(step));
}

PlaceBytes Checkpoints::bytes(const RankRun& run, const Belongs& belongs) const {
  PlaceBytes bytes = best_bytes(run);
  for (const File& file : files()) {
    if (belongs(file.step)) bytes = bytes + file_bytes(file.path, run.state_tensors());
  }
  return bytes;
}

PlaceBytes Checkpoints::best_bytes(const RankRun& run) const {
  return file_bytes(best_path(), run.state_tensors());
}

}  // namespace ftplan::executor

#include "executor/checkpointing.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/check.h"
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
constexpr const char* kMark = ".complete";
constexpr std::size_t kDigits = 12;
constexpr std::size_t kPartDigits = 5;

std::string padded_number(std::int64_t value, std::size_t digits) {
  const std::string number = std::to_string(value);
  return std::string(digits - std::min(digits, number.size()), '0') + number;
}

std::string of_parts(std::int64_t parts) { return "-of-" + padded_number(parts, kPartDigits); }

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string suffix_of(std::int64_t part, std::int64_t parts) {
  return parts == 1 ? kSuffix : "-" + padded_number(part, kPartDigits) + of_parts(parts) + kSuffix;
}

// The number of parts that the end of a name tells: none where it is of no complete checkpoint.
std::optional<std::int64_t> parts_in(std::string_view end) {
  if (end == kSuffix) return 1;
  std::int64_t parts = 0;
  const std::size_t begin = std::string_view("-of-").size();
  if (end.size() <= begin) return std::nullopt;
  (void)std::from_chars(end.data() + begin, end.data() + end.size(), parts);
  return end == of_parts(parts) + kMark ? std::optional(parts) : std::nullopt;
}

// Of what a file says and of the bytes of its tensors.
template <class BytesOf>
std::string digest_of(const std::vector<program::StateTensor>& tensors,
                      const models::Metadata& metadata, const BytesOf& bytes_of) {
  Digester digester;
  for (const auto& [name, value] : metadata) {
    if (name != "digest") digester.add(name + "=" + value + "\n");
  }
  for (const auto& tensor : tensors) digester.add(text_of(bytes_of(tensor)));
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

Checkpoints::Checkpoints(std::string folder, std::string plan_digest,
                         const program::FileShare& share)
    : folder_(std::move(folder)),
      plan_digest_(std::move(plan_digest)),
      share_(share),
      suffix_(suffix_of(share.part, share.parts)),
      complete_suffix_(share.parts == 1 ? kSuffix : of_parts(share.parts) + kMark) {}

std::string Checkpoints::path_of(std::int64_t step, const std::string& suffix) const {
  return models::join_path(folder_, kPrefix + padded_number(step, kDigits) + suffix);
}

std::string Checkpoints::best_path(const std::string& suffix) const {
  return models::join_path(folder_, "best" + suffix);
}

std::vector<Checkpoints::Saved> Checkpoints::saved() const {
  std::vector<Saved> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    const std::string name = entry.path().filename().string();
    const std::size_t begin = std::string_view(kPrefix).size();
    if (!name.starts_with(kPrefix) || name.size() <= begin + kDigits) continue;
    Saved saved;
    const auto read =
        std::from_chars(name.data() + begin, name.data() + begin + kDigits, saved.step);
    const auto parts = parts_in(std::string_view(name).substr(begin + kDigits));
    if (read.ec != std::errc() || read.ptr != name.data() + begin + kDigits || !parts) continue;
    saved.parts = *parts;
    found.push_back(saved);
  }
  // Of the same step this run's own comes last.
  const auto rank_of = [this](const Saved& saved) {
    return std::pair(saved.step, saved.parts == share_.parts);
  };
  std::sort(found.begin(), found.end(),
            [&](const Saved& a, const Saved& b) { return rank_of(a) < rank_of(b); });
  return found;
}

std::vector<Checkpoints::File> Checkpoints::files(const std::string& suffix) const {
  std::vector<File> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix) || !name.ends_with(suffix)) continue;
    File file{.path = entry.path().string()};
    const char* begin = name.data() + std::string_view(kPrefix).size();
    const char* end = name.data() + name.size() - suffix.size();
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
      path, specs,
      program::with_digest(metadata, digest_of(tensors, metadata, [&](const auto& tensor) {
                             return run.state(tensor);
                           })));
  if (!writer) return writer.error();
  for (const auto& tensor : tensors) {
    if (auto ok = writer->write(tensor.spec.name, run.state(tensor)); !ok) return ok.error();
  }
  return writer->finish();
}

Result<program::CheckpointState> Checkpoints::read_part(
    RankRun& run, const std::string& path, Part from,
    const std::vector<program::StateTensor>& tensors, const std::string& way_out) const {
  auto file = models::SafetensorsFile::open(path);
  if (!file) return bad_input(path, file.error().message + "; " + way_out);
  if (models::value_of(file->metadata(), "plan") != plan_digest_) {
    return bad_input(
        path, "belongs to a run of another plan: choose another --output, or remove the folder");
  }
  for (const auto& tensor : tensors) {
    const models::TensorView* found = file->find(tensor.spec.name);
    const bool fits = found != nullptr &&
                      (from.of != share_.parts ||
                       static_cast<std::int64_t>(found->bytes.size()) == tensor.spec.bytes().value);
    if (!fits) return bad_input(path, "does not hold " + tensor.spec.name + " as the plan has it");
  }
  const auto state = program::checkpoint_state(file->metadata());
  const auto digest = digest_of(tensors, file->metadata(), [&](const auto& tensor) {
    return file->find(tensor.spec.name)->bytes;
  });
  if (!state || digest != models::value_of(file->metadata(), "digest"))
    return bad_input(path, "is damaged: its bytes are not those that were saved; " + way_out);
  for (const auto& tensor : tensors) {
    const auto bytes = file->find(tensor.spec.name)->bytes;
    const auto to = run.state(tensor);
    // Bytes of the whole that this part and the run's own have in common.
    const std::size_t from_begin = static_cast<std::size_t>(from.part) * bytes.size();
    const std::size_t to_begin = static_cast<std::size_t>(share_.part) * to.size();
    const std::size_t begin = std::max(from_begin, to_begin);
    const std::size_t end = std::min(from_begin + bytes.size(), to_begin + to.size());
    if (begin < end)
      std::memcpy(to.data() + (begin - to_begin), bytes.data() + (begin - from_begin), end - begin);
  }
  return *state;
}

Result<program::CheckpointState> Checkpoints::read(
    RankRun& run, std::int64_t parts, const std::function<std::string(std::int64_t)>& path_of_part,
    const std::vector<program::StateTensor>& tensors, const std::string& way_out) const {
  std::optional<program::CheckpointState> state;
  for (std::int64_t part = 0; part < parts; ++part) {
    if (parts == share_.parts && part != share_.part) continue;
    auto read = read_part(run, path_of_part(part), {part, parts}, tensors, way_out);
    if (!read) return read.error();
    state = *read;
  }
  FTPLAN_CHECK(state.has_value());
  run.restore_weights();
  return *state;
}

Result<void> Checkpoints::save(const RankRun& run, const program::CheckpointState& state) const {
  if (!share_.writes_states) return {};
  return write(run, path_of(state.step, suffix_), run.state_tensors(), state);
}

std::vector<std::int64_t> Checkpoints::steps_to_keep(std::int64_t limit,
                                                     const Belongs& belongs) const {
  std::vector<Saved> found = saved();
  std::erase_if(found, [this](const Saved& each) { return each.parts != share_.parts; });
  std::reverse(found.begin(), found.end());
  std::vector<std::int64_t> steps;
  std::int64_t kept = 0;
  for (const Saved& each : found) {
    const bool counts = belongs(each.step);
    kept += counts ? 1 : 0;
    if (steps.empty() || (counts && kept <= limit)) steps.push_back(each.step);
  }
  return steps;
}

Result<void> Checkpoints::complete(std::int64_t step, std::int64_t limit,
                                   const Belongs& belongs) const {
  if (share_.parts == 1) return {};
  if (auto ok = models::write_text_file(path_of(step, complete_suffix_), ""); !ok)
    return ok.error();
  // A mark without its files would be worse than files without their mark.
  remove_all_but(steps_to_keep(limit, belongs), complete_suffix_);
  return {};
}

void Checkpoints::remove_all_but(const std::vector<std::int64_t>& steps,
                                 const std::string& suffix) const {
  for (const File& file : files(suffix)) {
    std::error_code error;
    if (std::find(steps.begin(), steps.end(), file.step) == steps.end())
      fs::remove(file.path, error);
  }
}

Result<void> Checkpoints::save_best(const RankRun& run,
                                    const program::CheckpointState& state) const {
  if (!share_.writes_states) return {};
  return write(run, best_path(suffix_), program::best_tensors(run.state_tensors()), state);
}

void Checkpoints::prune(std::int64_t limit, const Belongs& belongs) const {
  if (!share_.writes_states) return;
  remove_all_but(steps_to_keep(limit, belongs), suffix_);
  if (share_.part > 0) return;
  // What the run continued from, where it was cut into other parts.
  for (const Saved& other : saved()) {
    if (other.parts == share_.parts) continue;
    std::error_code error;
    fs::remove(path_of(other.step, other.parts == 1 ? kSuffix : of_parts(other.parts) + kMark),
               error);
    for (std::int64_t part = 0; part < other.parts; ++part)
      fs::remove(path_of(other.step, suffix_of(part, other.parts)), error);
  }
}

Result<std::optional<program::CheckpointState>> Checkpoints::restore(RankRun& run) const {
  const std::vector<Saved> found = saved();
  if (found.empty()) return std::optional<program::CheckpointState>{};
  const Saved newest = found.back();
  const std::string remove =
      newest.parts == 1 ? "remove it to "
                        : "remove " + path_of(newest.step, of_parts(newest.parts) + kMark) + " to ";
  const std::string before =
      found.size() == 1 ? "start from the first step again"
                        : "continue after step " + std::to_string(found[found.size() - 2].step);
  const auto path = [&](std::int64_t part) {
    return path_of(newest.step, suffix_of(part, newest.parts));
  };
  auto state = read(run, newest.parts, path, run.state_tensors(), remove + before);
  if (!state) return state.error();
  if (run.loss_scale().has_value() != state->loss_scale.has_value())
    return bad_input(path(0), "does not hold the loss scale as the plan has it");
  if (state->loss_scale) run.restore(*state->loss_scale);
  return std::optional(*state);
}

Result<void> Checkpoints::check_best(std::int64_t step) const {
  const std::string way_out = "; to start from the first step again, remove " + folder_;
  const std::string path = best_path(suffix_);
  const auto file = models::SafetensorsFile::open(path);
  if (!file && kept_elsewhere()) {
    return bad_input(
        "--load-best-model-at-end",
        "the best state so far was kept by another number of ranks: continuing it on " +
            std::to_string(share_.parts) + " is not built yet");
  }
  if (!file) {
    return bad_input(path, "the best state so far, that after step " + std::to_string(step) +
                               ", cannot be read: " + file.error().message + way_out);
  }
  const auto state = program::checkpoint_state(file->metadata());
  if (!state || models::value_of(file->metadata(), "plan") != plan_digest_ || state->step < step) {
    return bad_input(
        path, "is not the best state so far, that after step " + std::to_string(step) + way_out);
  }
  return {};
}

bool Checkpoints::kept_elsewhere() const {
  std::error_code error;
  const auto entries = fs::directory_iterator(folder_, error);
  return !error && std::any_of(fs::begin(entries), fs::end(entries), [this](const auto& entry) {
    return entry.path().filename().string().starts_with("best") &&
           entry.path().string() != best_path(suffix_);
  });
}

Result<void> Checkpoints::restore_best(RankRun& run, std::int64_t step) const {
  const std::string path = best_path(suffix_);
  const auto state = read(
      run, share_.parts, [&](std::int64_t) { return best_path(suffix_); },
      program::best_tensors(run.state_tensors()),
      "to start from the first step again, remove " + folder_);
  if (!state) return state.error();
  if (state->step == step) return {};
  return bad_input(path, "holds the state after step " + std::to_string(state->step) +
                             ", expected that after step " + std::to_string(step));
}

PlaceBytes Checkpoints::bytes(const RankRun& run, const Belongs& belongs) const {
  if (!share_.writes_states) return {};
  PlaceBytes bytes = best_bytes(run);
  for (const File& file : files(suffix_)) {
    if (belongs(file.step)) bytes = bytes + file_bytes(file.path, run.state_tensors());
  }
  return bytes;
}

PlaceBytes Checkpoints::best_bytes(const RankRun& run) const {
  return share_.writes_states ? file_bytes(best_path(suffix_), run.state_tensors()) : PlaceBytes{};
}

}  // namespace ftplan::executor

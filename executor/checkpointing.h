#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/category.h"
#include "core/result.h"
#include "executor/rank_run.h"
#include "program/run_files.h"

namespace ftplan::executor {

/// The checkpoints of one run: `checkpoints/step-000000000120.safetensors`, which a run continues
/// from, and `checkpoints/best.safetensors`, the values with the lowest validation loss. Each is
/// complete or absent, and what a disk has damaged since is found by its digest.
class Checkpoints {
 public:
  /// Tells checkpoints that are the run's by their step from those that only a stop has left.
  using Belongs = std::function<bool(std::int64_t step)>;

  /// @param plan_digest 16 hexadecimal digits: files of another plan are refused
  Checkpoints(std::string folder, std::string plan_digest);

  /// Writes the states. Nothing is removed.
  /// @error run failed: no space, a folder that cannot be written; what is there stays
  Result<void> save(const RankRun& run, const program::CheckpointState& state) const;
  /// Keeps the values as the best; those before are replaced once these are durable.
  Result<void> save_best(const RankRun& run, const program::CheckpointState& state) const;

  /// Removes all but the newest and, of those that belong, the newest `limit`.
  void prune(std::int64_t limit, const Belongs& belongs) const;

  /// Brings the newest states back; empty when there are none. @pre `run` is loaded
  /// @error bad input: it was written by a run of another plan, is cut off or damaged
  Result<std::optional<program::CheckpointState>> restore(RankRun& run) const;
  /// Brings the best values back, those after `step`.
  /// @error bad input: they are not there, or as above
  Result<void> restore_best(RankRun& run, std::int64_t step) const;
  /// Whether `restore_best` will find those of `step`, or of a later one that is to come again.
  [[nodiscard]] Result<void> check_best(std::int64_t step) const;

  /// Bytes of the files that are there, by category, read from them.
  [[nodiscard]] PlaceBytes bytes(const RankRun& run, const Belongs& belongs) const;
  /// Of them, those of the best.
  [[nodiscard]] PlaceBytes best_bytes(const RankRun& run) const;

 private:
  struct File {
    std::string path;
    std::int64_t step = 0;
  };
  [[nodiscard]] std::vector<File> files() const;
  [[nodiscard]] std::string path_of(std::int64_t step) const;
  [[nodiscard]] std::string best_path() const;
  [[nodiscard]] Result<void> write(const RankRun& run, const std::string& path,
                                   const std::vector<program::StateTensor>& tensors,
                                   const program::CheckpointState& state) const;
  [[nodiscard]] Result<program::CheckpointState> read(
      RankRun& run, const std::string& path, const std::vector<program::StateTensor>& tensors,
      const std::string& way_out) const;

  std::string folder_;
  std::string plan_digest_;
};

}  // namespace ftplan::executor

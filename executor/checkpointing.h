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
///
/// Where ranks have parts of the states each writes its own, `step-000000000120-00001-of-00002
/// .safetensors`, and once all are durable rank 0 makes the empty file
/// `step-000000000120-of-00002.complete`: a checkpoint is what has one. A run on another number of
/// ranks cuts the states anew.
class Checkpoints {
 public:
  /// Tells checkpoints that are the run's by their step from those that only a stop has left.
  using Belongs = std::function<bool(std::int64_t step)>;

  /// @param plan_digest 16 hexadecimal digits: files of another plan are refused
  Checkpoints(std::string folder, std::string plan_digest, const program::FileShare& share = {});

  /// Writes the states, or the rank's part of them. Nothing is removed.
  /// @error run failed: no space, a folder that cannot be written; what is there stays
  Result<void> save(const RankRun& run, const program::CheckpointState& state) const;
  /// Makes a checkpoint of several ranks one, and those before it none that `prune` will remove.
  /// @pre all ranks have saved it, and this is rank 0
  Result<void> complete(std::int64_t step, std::int64_t limit, const Belongs& belongs) const;
  /// Keeps the values as the best; those before are replaced once these are durable.
  Result<void> save_best(const RankRun& run, const program::CheckpointState& state) const;

  /// Removes this rank's files of all but the newest and, of those that belong, the newest `limit`.
  /// @pre `complete`, where there are several ranks
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
  /// A complete checkpoint.
  struct Saved {
    std::int64_t step = 0;
    std::int64_t parts = 1;
  };
  struct Part {
    std::int64_t part = 0;
    std::int64_t of = 1;
  };
  [[nodiscard]] std::vector<File> files(const std::string& suffix) const;
  /// Of this run and of the same on another number of ranks, the newest last.
  [[nodiscard]] std::vector<Saved> saved() const;
  /// Whether there is a best state in other parts.
  [[nodiscard]] bool kept_elsewhere() const;
  [[nodiscard]] std::vector<std::int64_t> steps_to_keep(std::int64_t limit,
                                                        const Belongs& belongs) const;
  void remove_all_but(const std::vector<std::int64_t>& steps, const std::string& suffix) const;
  [[nodiscard]] std::string path_of(std::int64_t step, const std::string& suffix) const;
  [[nodiscard]] std::string best_path(const std::string& suffix) const;
  [[nodiscard]] Result<void> write(const RankRun& run, const std::string& path,
                                   const std::vector<program::StateTensor>& tensors,
                                   const program::CheckpointState& state) const;
  /// Copies what the part has of the run's own.
  [[nodiscard]] Result<program::CheckpointState> read_part(
      RankRun& run, const std::string& path, Part from,
      const std::vector<program::StateTensor>& tensors, const std::string& way_out) const;
  /// All parts that the run needs; the rest of it is padding, which stays as it is.
  [[nodiscard]] Result<program::CheckpointState> read(
      RankRun& run, std::int64_t parts,
      const std::function<std::string(std::int64_t part)>& path_of_part,
      const std::vector<program::StateTensor>& tensors, const std::string& way_out) const;

  std::string folder_;
  std::string plan_digest_;
  program::FileShare share_;
  std::string suffix_;           // of this rank's files
  std::string complete_suffix_;  // of what tells that a checkpoint is complete
};

}  // namespace ftplan::executor

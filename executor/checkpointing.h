#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/category.h"
#include "core/result.h"
#include "executor/rank_run.h"

/// Checkpoints: `checkpoints/step-000000000120.safetensors`, complete or absent.
namespace ftplan::executor {

/// Writes the states and the loss scale after `step` optimizer steps and, once they are durable,
/// removes older checkpoints.
/// @param plan_digest 16 hexadecimal digits
/// @error run failed: no space, a folder that cannot be written; older checkpoints stay
Result<void> save_checkpoint(const RankRun& run, const std::string& folder, std::int64_t step,
                             const std::string& plan_digest);

struct CheckpointFile {
  std::string path;
  std::int64_t step = 0;
};

/// The newest complete checkpoint of the folder.
/// @error bad input: it was written by a run of another plan
Result<std::optional<CheckpointFile>> newest_checkpoint(const std::string& folder,
                                                        const std::string& plan_digest);

/// Brings the states back. @pre `run` is loaded
/// @error bad input: a file that does not hold what the plan needs
Result<void> restore_checkpoint(RankRun& run, const std::string& path);

/// Bytes of the checkpoints that are there, by category, read from the files.
PlaceBytes checkpoint_disk_bytes(const std::string& folder, Category values);

}  // namespace ftplan::executor

#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "core/result.h"
#include "core/units.h"

/// An adapter merged into its base model: a model folder that needs no adapter any more.
namespace ftplan::models {

struct MergeRequest {
  std::string base;     ///< model folder
  std::string adapter;  ///< PEFT folder
  std::string output;   ///< folder to write; made when missing
  int threads = 1;
};

/// How far a merge is; handed out after each tensor.
struct MergeProgress {
  Bytes done;
  Bytes total;
  std::string file;  ///< that is being written
};

struct MergeSummary {
  std::int64_t merged = 0;  ///< weights that the adapter changed or replaced
  std::int64_t copied = 0;  ///< weights that it did not
  Bytes written;            ///< all files of the folder
};

/// Writes the base's weights with `W + scaling * B A`, computed in f32 and rounded once to the
/// element type of `W`, and those that the adapter trained in full in their place, in the same
/// files under the same names; copies configuration and tokenizer. Memory is bounded by a few
/// blocks of rows and one linear's matrices. `config.json` comes last: a folder that has one is
/// complete.
/// @error bad input (the adapter fits another model, the output folder is taken, a sum is not
/// finite
///        in the element type) or run failed (the disk)
Result<MergeSummary> merge_adapter(const MergeRequest& request,
                                   const std::function<void(const MergeProgress&)>& progress = {});

}  // namespace ftplan::models

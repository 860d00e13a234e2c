#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/units.h"
#include "models/linear_rows.h"

/// A model folder made from another: with an adapter merged into it, in other numbers, or both.
namespace ftplan::models {

struct MergeRequest {
  std::string base;     ///< model folder
  std::string adapter;  ///< PEFT folder; empty: nothing is merged
  std::string output;   ///< folder to write; made when missing
  int threads = 1;
  /// What training had in place of the linears of a base that is plain; their values are then those
  /// that the codes stand for.
  StoredLinears trained = StoredLinears::kPlain;
  StoredLinears into = StoredLinears::kPlain;  ///< how linears are written
  std::optional<DType> dtype;  ///< of all weights that are no codes; empty: as in the base
};

/// How far a merge is; handed out after each tensor.
struct MergeProgress {
  Bytes done;
  Bytes total;
  std::string file;  ///< that is being written
};

/// What rounding took from the linears of one name, in all layers that were not copied.
struct MergeRounding {
  std::string linear;
  Rounding rounding;
};

struct MergeSummary {
  std::int64_t merged = 0;     ///< weights that the adapter changed or replaced
  std::int64_t converted = 0;  ///< others that are in other numbers than before
  std::int64_t copied = 0;     ///< weights that are as they were
  Bytes written;               ///< all files of the folder
  StoredLinears base = StoredLinears::kPlain;
  std::vector<MergeRounding> roundings;  ///< in the order of `linear_names`
};

/// Writes the base's weights, linears as `W + scaling * B A`, computed in f32 and rounded once to
/// how they are written, and those that the adapter trained in full in their place, in files of the
/// same names; copies tokenizer and configuration. Linears of which nothing changes keep their
/// bytes. Memory is bounded by a few stretches of rows, one linear's adapter matrices and its
/// scales. `config.json` comes last: a folder that has one is complete.
/// @error bad input (the adapter fits another model, the output folder is taken, a sum is not
///        finite in the numbers that are written, transformers reads no such folder) or run failed
///        (the disk)
Result<MergeSummary> merge_adapter(const MergeRequest& request,
                                   const std::function<void(const MergeProgress&)>& progress = {});

}  // namespace ftplan::models

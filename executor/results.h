#pragma once

#include <string>

#include "core/category.h"
#include "core/result.h"
#include "data/tokenizer.h"
#include "executor/rank_run.h"

/// What a run leaves behind: `adapter/` that PEFT loads, or `model/` that transformers loads.
namespace ftplan::executor {

/// Of several ranks one does so; where they keep parts of the weights the others meanwhile call
/// `RankRun::save`, and no rank holds more than it does in a step.
/// @param model_folder whose configuration goes into `model/`
/// @param tokenizer goes into `model/`, and into `adapter/` where it has new tokens or rows
/// @return the folder
Result<std::string> write_result(RankRun& run, const std::string& output,
                                 const std::string& model_folder,
                                 const data::TokenizerSource& tokenizer);

/// Bytes of a result's weights and adapter configuration, read from its files.
PlaceBytes result_disk_bytes(const RankRun& run, const std::string& output);

}  // namespace ftplan::executor

#pragma once

#include <string>
#include <vector>

#include "core/machine.h"
#include "core/result.h"

/// Scratch that `ftplan calibrate` measured, kept in the user's cache folder: one file for each
/// `machine_digest`.
namespace ftplan::tools {

/// `folder/scratch-<digest>.json`
std::string scratch_file(const std::string& folder, const Machine& machine);

/// Entries of the file, sorted by operation; none where there is no file.
/// @error bad input: a file that ftplan did not write
Result<std::vector<MeasuredScratch>> load_scratch(const std::string& folder,
                                                  const Machine& machine);

/// Adds `entries` to the file; of two for one operation the new one stays.
Result<void> save_scratch(const std::string& folder, const Machine& machine,
                          const std::vector<MeasuredScratch>& entries);

}  // namespace ftplan::tools

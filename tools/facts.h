#pragma once

#include <optional>
#include <string>

#include "core/data_options.h"
#include "core/job.h"
#include "core/result.h"

namespace ftplan::tools {

/// What the data of a request becomes with the tokenizer in `model_folder`; empty when the request names no data.
/// @error data that cannot be read, or no tokenizer
Result<std::optional<DataFacts>> read_facts(const JobRequest& request, const std::string& model_folder);

}  // namespace ftplan::tools

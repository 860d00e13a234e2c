#pragma once

#include <memory>
#include <optional>

#include "core/data_options.h"
#include "core/job.h"
#include "core/model_config.h"
#include "core/result.h"
#include "data/data_set.h"
#include "data/tokenizer.h"
#include "models/load.h"

/// The data of a request.
namespace ftplan::tools {

struct LoadedData {
  std::unique_ptr<data::Tokenizer> tokenizer;  ///< null where `tokens` data needs none
  data::DataSet set;
};

/// The tokenizer of a request: that of its adapter where it brings one, else of its model.
data::TokenizerSource tokenizer_source(const JobRequest& request, const models::ModelSource& model);

/// The model with rows for the tokens that the request adds, or for all that its tokenizer has. A
/// preset has no tokenizer: each token counts as one that it lacks.
/// @error bad input: a tokenizer that cannot be read, an adapter that new tokens do not fit
Result<ModelConfig> grown_model(const JobRequest& request, const models::ModelSource& model);

/// Reads and tokenizes what `--data` names, with the tokenizer in the model's folder.
/// @error data or tokenizer that cannot be read; text without a tokenizer
Result<LoadedData> load_request_data(const JobRequest& request, const models::ModelSource& model);

/// What the data becomes; empty when the request names none.
Result<std::optional<DataFacts>> read_facts(const JobRequest& request,
                                            const models::ModelSource& model);

}  // namespace ftplan::tools

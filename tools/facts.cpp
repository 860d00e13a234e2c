#include "tools/facts.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/data_options.h"
#include "core/job.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/units.h"
#include "data/data_set.h"
#include "data/saved_tokenizer.h"
#include "data/tokenizer.h"
#include "models/family.h"
#include "models/load.h"
#include "tools/environment.h"

namespace ftplan::tools {

data::TokenizerSource tokenizer_source(const JobRequest& request,
                                       const models::ModelSource& model) {
  const bool brought = !request.adapter.empty() && data::has_tokenizer(request.adapter);
  return {.folder = brought ? request.adapter : model.folder,
          .model_folder = model.folder,
          .added = request.data.add_tokens};
}

Result<ModelConfig> grown_model(const JobRequest& request, const models::ModelSource& model) {
  const std::vector<std::string>& added = request.data.add_tokens;
  const auto& multiple = request.data.pad_vocabulary_to;
  std::int64_t rows = model.config.vocabulary;
  if (added.empty() && !multiple) return model.config;
  if (!request.adapter.empty()) {
    return bad_input(
        added.empty() ? "--pad-vocabulary-to" : "--add-tokens",
        "beside --adapter it is not built yet: add all tokens in the first plan, whose "
        "adapter brings them");
  }
  // Data of tokens may do without a tokenizer.
  const bool alone = added.empty() && !data::has_tokenizer(model.folder);
  if (model.folder.empty() || alone) {
    rows += static_cast<std::int64_t>(added.size());
  } else {
    const auto tokenizer = data::load_tokenizer(tokenizer_source(request, model));
    if (!tokenizer) return tokenizer.error();
    rows = std::max(rows, (*tokenizer)->vocabulary());
  }
  return models::with_vocabulary(model.config, round_up(rows, multiple.value_or(1)));
}

Result<LoadedData> load_request_data(const JobRequest& request, const models::ModelSource& model) {
  LoadedData loaded;
  std::optional<Error> no_tokenizer;
  const data::TokenizerSource source = tokenizer_source(request, model);
  if (!model.folder.empty()) {
    auto tokenizer = data::load_tokenizer(source);
    if (tokenizer.ok()) {
      loaded.tokenizer = *std::move(tokenizer);
    } else {
      no_tokenizer = tokenizer.error();
    }
  }
  auto set = data::load_data(request.data, {.tokenizer = loaded.tokenizer.get(),
                                            .folder = source.folder,
                                            .positions = model.config.positions,
                                            .vocabulary = model.config.vocabulary,
                                            .seed = request.training.seed,
                                            .cache_folder = cache_folder()});
  if (!set.ok()) {
    Error error = set.error();
    // Data of tokens does without one; for any other it may be the reason.
    if (no_tokenizer && request.data.format != DataFormat::kTokens)
      error.message += " (" + no_tokenizer->text() + ")";
    return error;
  }
  loaded.set = *std::move(set);
  return loaded;
}

Result<std::optional<DataFacts>> read_facts(const JobRequest& request,
                                            const models::ModelSource& model) {
  if (request.data.data.empty()) return std::optional<DataFacts>{};
  auto loaded = load_request_data(request, model);
  if (!loaded) return loaded.error();
  return std::optional<DataFacts>(std::move(loaded->set.facts));
}

}  // namespace ftplan::tools

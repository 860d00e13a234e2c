#include "tools/facts.h"

#include <optional>
#include <utility>

#include "core/data_options.h"
#include "core/job.h"
#include "core/result.h"
#include "data/data_set.h"
#include "data/tokenizer.h"
#include "models/load.h"
#include "tools/environment.h"

namespace ftplan::tools {

Result<LoadedData> load_request_data(const JobRequest& request, const models::ModelSource& model) {
  LoadedData loaded;
  std::optional<Error> no_tokenizer;
  if (!model.folder.empty()) {
    auto tokenizer = data::load_tokenizer(model.folder);
    if (tokenizer.ok()) {
      loaded.tokenizer = *std::move(tokenizer);
    } else {
      no_tokenizer = tokenizer.error();
    }
  }
  auto set = data::load_data(request.data, {.tokenizer = loaded.tokenizer.get(),
                                            .folder = model.folder,
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

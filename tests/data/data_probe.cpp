#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "core/data_options.h"
#include "core/json.h"
#include "core/result.h"
#include "data/data_set.h"
#include "data/tokenizer.h"
#include "data/tokens_json.h"

// data_probe FOLDER_OF_TOKENIZER OPTIONS_AS_JSON OUT: writes the training rows as `tokens`, prints
// the facts. An empty folder means no tokenizer.
namespace {

ftplan::Result<void> run(const std::string& folder, const std::string& text,
                         const std::string& out) {
  using ftplan::data::Tokenizer;
  const auto json = ftplan::parse_json(text, "options");
  if (!json) return json.error();
  const auto options = ftplan::from_json<ftplan::DataOptions>(*json, "options");
  if (!options) return options.error();
  std::unique_ptr<Tokenizer> tokenizer;
  if (!folder.empty()) {
    auto loaded = ftplan::data::load_tokenizer(folder);
    if (!loaded) return loaded.error();
    tokenizer = *std::move(loaded);
  }
  const auto set = ftplan::data::load_data(
      *options, {.tokenizer = tokenizer.get(), .folder = folder, .cache_folder = {}});
  if (!set) return set.error();
  std::cout << ftplan::to_json(set->facts).dump() << "\n";
  return ftplan::data::write_tokens(set->training, out);
}

}  // namespace

int main(int count, char** arguments) {  // NOLINT(bugprone-exception-escape)
  if (count != 4) return 2;
  const auto done = run(arguments[1], arguments[2], arguments[3]);
  if (done) return 0;
  std::cerr << done.error().text() << "\n";
  return 2;
}

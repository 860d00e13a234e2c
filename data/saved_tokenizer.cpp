#include "data/saved_tokenizer.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "core/tokenizer_files.h"
#include "data/atomic_file.h"
#include "data/mapped_file.h"
#include "data/tokenizer.h"

namespace ftplan::data {
namespace {

constexpr const char* kTokenizerJson = "tokenizer.json";
constexpr const char* kTokenizerModel = "tokenizer.model";
constexpr const char* kSettings = "tokenizer_config.json";
constexpr const char* kLegacyTokens = "added_tokens.json";

struct NewToken {
  std::string content;
  std::int32_t id = 0;
  bool special = false;
};

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

Json entry_of(const NewToken& token) {
  return {{"content", token.content}, {"lstrip", false},      {"normalized", false},
          {"rstrip", false},          {"single_word", false}, {"special", token.special}};
}

Result<std::vector<NewToken>> find_new(const TokenizerSource& source, const Tokenizer& tokenizer) {
  std::vector<NewToken> tokens;
  for (const std::string& content : source.added) {
    const auto ids = tokenizer.encode(content, Surround::kNothing);
    if (!ids) return ids.error();
    if (ids->size() == 1)
      tokens.push_back({content, ids->front(), tokenizer.is_special(ids->front())});
  }
  std::ranges::sort(tokens, {}, &NewToken::id);
  return tokens;
}

// Names that no file lists have ids too, which those behind them must not take.
void add_unlisted(const Tokenizer& tokenizer, std::int32_t after, std::vector<NewToken>& tokens) {
  std::vector<NewToken> unlisted;
  for (std::int32_t id = after; !tokens.empty() && id < tokens.front().id; ++id)
    unlisted.push_back({tokenizer.piece(id), id, tokenizer.is_special(id)});
  tokens.insert(tokens.begin(), unlisted.begin(), unlisted.end());
}

void add_to_json(const Tokenizer& tokenizer, std::vector<NewToken> tokens, Json& json) {
  const Json& vocabulary = json["model"]["vocab"];
  // Of a model that is read from tokenizer.model, a list.
  std::int32_t last = static_cast<std::int32_t>(vocabulary.size()) - 1;
  for (const Json& id : vocabulary) {
    if (id.is_number_integer()) last = std::max(last, id.get<std::int32_t>());
  }
  for (const Json& entry : json["added_tokens"])
    last = std::max(last, entry.value("id", std::int32_t{-1}));
  std::erase_if(tokens, [&](const NewToken& token) { return token.id <= last; });
  add_unlisted(tokenizer, last + 1, tokens);
  for (const NewToken& token : tokens) {
    Json entry = {{"id", token.id}};
    entry.update(entry_of(token));
    json["added_tokens"].push_back(entry);
  }
}

void add_to_settings(const std::vector<NewToken>& tokens, Json& json) {
  Json& decoder = json["added_tokens_decoder"];
  for (const NewToken& token : tokens) {
    const std::string id = std::to_string(token.id);
    if (!decoder.contains(id)) decoder[id] = entry_of(token);
  }
}

Result<Json> read_json(const std::string& path) {
  const auto file = MappedFile::open(path);
  if (!file) return file.error();
  return parse_json(file->bytes(), path);
}

Result<void> write_json(const std::string& path, const Json& json) {
  auto file = AtomicFile::create(path);
  if (!file) return file.error();
  file->write(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  return file->commit();
}

}  // namespace

bool has_tokenizer(const std::string& folder) {
  return exists(folder + "/" + kTokenizerJson) || exists(folder + "/" + kTokenizerModel);
}

Result<void> save_tokenizer(const TokenizerSource& source, const Tokenizer& tokenizer,
                            const std::string& folder) {
  for (const char* name : kTokenizerFiles) {
    const std::string from = source.folder + "/" + name;
    if (!exists(from)) continue;
    std::error_code error;
    std::filesystem::copy_file(from, folder + "/" + name,
                               std::filesystem::copy_options::overwrite_existing, error);
    if (error) return run_failed(folder + "/" + name, "cannot be written: " + error.message());
  }
  const auto tokens = find_new(source, tokenizer);
  if (!tokens) return tokens.error();
  if (tokens->empty()) return {};
  const bool has_json = exists(folder + "/" + kTokenizerJson);
  if (has_json) {
    const std::string path = folder + "/" + kTokenizerJson;
    auto json = read_json(path);
    if (!json) return json.error();
    add_to_json(tokenizer, *tokens, *json);
    if (auto ok = write_json(path, *json); !ok) return ok;
  }
  const std::string settings_path = folder + "/" + kSettings;
  auto settings = exists(settings_path) ? read_json(settings_path) : Result<Json>(Json::object());
  if (!settings) return settings.error();
  if (!has_json || settings->contains("added_tokens_decoder")) {
    add_to_settings(*tokens, *settings);
    if (auto ok = write_json(settings_path, *settings); !ok) return ok;
  }
  const std::string legacy_path = folder + "/" + kLegacyTokens;
  if (!exists(legacy_path)) return {};
  auto legacy = read_json(legacy_path);
  if (!legacy) return legacy.error();
  for (const NewToken& token : *tokens) (*legacy)[token.content] = token.id;
  return write_json(legacy_path, *legacy);
}

}  // namespace ftplan::data

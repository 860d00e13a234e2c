#include "data/tokenizer_settings.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "core/digest.h"
#include "core/json.h"
#include "core/result.h"
#include "data/added_tokens.h"
#include "data/mapped_file.h"

namespace ftplan::data {
namespace {

// One of the files, or an empty object where it is missing.
Result<Json> read_if_there(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return Json(Json::object());
  auto file = MappedFile::open(path);
  if (!file) return file.error();
  auto json = parse_json(file->bytes(), path);
  if (json && !json->is_object())
    return bad_input(path, "got a list or a value, expected an object");
  return json;
}

// A token is a string, or an object with its `content`; null stands for none.
Result<std::optional<std::string>> read_token(const Json& json, const std::string& key,
                                              const std::string& path) {
  const auto entry = json.find(key);
  if (entry == json.end() || entry->is_null()) return std::optional<std::string>{};
  if (entry->is_string()) return std::optional(entry->get<std::string>());
  if (entry->is_object() && entry->contains("content") && (*entry)["content"].is_string()) {
    return std::optional((*entry)["content"].get<std::string>());
  }
  return bad_input(path + "#/" + key, "expected a token: a string or an object with its content");
}

Result<void> read_named_tokens(const Json& json, const std::string& path,
                               TokenizerSettings& settings) {
  const std::pair<const char*, std::optional<std::string> TokenizerSettings::*> named[] = {
      {"bos_token", &TokenizerSettings::bos},
      {"eos_token", &TokenizerSettings::eos},
      {"unk_token", &TokenizerSettings::unk},
      {"pad_token", &TokenizerSettings::pad}};
  for (const auto& [key, member] : named) {
    if (!json.contains(key)) continue;
    auto token = read_token(json, key, path);
    if (!token) return token.error();
    settings.*member = *std::move(token);
  }
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const auto list = json.find(key);
    if (list == json.end() || !list->is_array()) continue;
    for (std::size_t i = 0; i < list->size(); ++i) {
      const Json one = {{"token", (*list)[i]}};
      auto token = read_token(one, "token", path + "#/" + key);
      if (!token) return token.error();
      if (*token) settings.extra_special.push_back(**token);
    }
  }
  return {};
}

Result<bool> read_flag(const Json& json, const char* key, const std::string& path, bool otherwise) {
  const auto entry = json.find(key);
  if (entry == json.end() || entry->is_null()) return otherwise;
  if (!entry->is_boolean()) return bad_input(path + "#/" + key, "expected true or false");
  return entry->get<bool>();
}

Result<void> read_added_tokens(const Json& json, const std::string& path,
                               TokenizerSettings& settings) {
  const auto decoder = json.find("added_tokens_decoder");
  if (decoder == json.end() || !decoder->is_object()) return {};
  for (const auto& entry : decoder->items()) {
    auto token = read_added_token(entry.value(), path + "#/added_tokens_decoder/" + entry.key());
    if (!token) return token.error();
    // Its id stands in the key; the order of ids is what gives new tokens theirs.
    token->id = static_cast<std::int32_t>(std::strtol(entry.key().c_str(), nullptr, 10));
    settings.added.push_back(*std::move(token));
  }
  std::ranges::stable_sort(settings.added, {}, &AddedToken::id);
  return {};
}

// One id or a list of them.
std::vector<std::int32_t> read_ids(const Json& json, const char* key) {
  std::vector<std::int32_t> ids;
  const auto add = [&](const Json& value) {
    if (!value.is_number_integer()) return;
    const auto id = value.get<std::int64_t>();
    if (id >= 0 && id <= std::numeric_limits<std::int32_t>::max()) {
      ids.push_back(static_cast<std::int32_t>(id));
    }
  };
  const auto entry = json.find(key);
  if (entry == json.end()) return ids;
  add(*entry);
  if (entry->is_array()) std::for_each(entry->begin(), entry->end(), add);
  return ids;
}

void read_model_ids(const Json& json, TokenizerSettings& settings) {
  const auto first = [&](const char* key, std::optional<std::int32_t>& id) {
    const auto ids = read_ids(json, key);
    if (!id && !ids.empty()) id = ids.front();
  };
  first("bos_token_id", settings.bos_id);
  first("pad_token_id", settings.pad_id);
  if (settings.eos_ids.empty()) settings.eos_ids = read_ids(json, "eos_token_id");
}

}  // namespace

std::string TokenizerSettings::digest() const {
  Json all = Json::array();
  for (const auto* token : {&bos, &eos, &unk, &pad}) all.push_back(token->value_or(""));
  for (const AddedToken& token : added) {
    all.push_back({token.content, token.id, token.single_word, token.lstrip, token.rstrip,
                   token.normalized, token.special});
  }
  all.push_back({extra_special, add_bos, add_eos, legacy, bos_id.value_or(-1), eos_ids});
  if (!more.empty()) all.push_back(more);
  return ftplan::digest(all.dump(-1, ' ', false, Json::error_handler_t::replace));
}

Result<TokenizerSettings> read_tokenizer_settings(const std::string& folder,
                                                  const std::string& model_folder) {
  TokenizerSettings settings;
  const std::string config_path = folder + "/tokenizer_config.json";
  const std::string map_path = folder + "/special_tokens_map.json";
  const auto config = read_if_there(config_path);
  if (!config) return config.error();
  const auto map = read_if_there(map_path);
  if (!map) return map.error();
  if (auto read = read_named_tokens(*config, config_path, settings); !read) return read.error();
  if (auto read = read_added_tokens(*config, config_path, settings); !read) return read.error();
  if (!config->contains("added_tokens_decoder")) {
    if (auto read = read_named_tokens(*map, map_path, settings); !read) return read.error();
  }
  for (const auto& [key, flag] :
       {std::pair{"add_bos_token", &settings.add_bos},
        std::pair{"add_eos_token", &settings.add_eos}, std::pair{"legacy", &settings.legacy}}) {
    const auto read = read_flag(*config, key, config_path, *flag);
    if (!read) return read.error();
    *flag = *read;
  }
  for (const char* name : {"/generation_config.json", "/config.json"}) {
    const auto json = read_if_there(model_folder + name);
    if (!json) return json.error();
    read_model_ids(*json, settings);
  }
  return settings;
}

}  // namespace ftplan::data

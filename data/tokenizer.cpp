#include "data/tokenizer.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/result.h"
#include "data/bpe_tokenizer.h"
#include "data/sentencepiece_tokenizer.h"
#include "data/tokenizer_json.h"
#include "data/tokenizer_settings.h"
#include "data/utf8.h"

namespace ftplan::data {

Result<std::vector<std::int32_t>> Tokenizer::encode(std::string_view text,
                                                    Surround surround) const {
  const auto body = encoder();
  const auto ids = body->encode(text);
  if (!ids) return ids.error();
  if (surround == Surround::kNothing) return std::vector<std::int32_t>(ids->begin(), ids->end());
  std::vector<std::int32_t> all = special().before;
  all.insert(all.end(), ids->begin(), ids->end());
  all.insert(all.end(), special().after.begin(), special().after.end());
  return all;
}

Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::string& folder) {
  return load_tokenizer(TokenizerSource{.folder = folder, .model_folder = {}, .added = {}});
}

Result<std::unique_ptr<Tokenizer>> load_tokenizer(const TokenizerSource& source) {
  const std::string& folder = source.folder;
  auto settings =
      read_tokenizer_settings(folder, source.model_folder.empty() ? folder : source.model_folder);
  if (!settings) return settings.error();
  settings->more = source.added;
  std::error_code ignored;
  const std::string json = folder + "/tokenizer.json";
  const std::string model = folder + "/tokenizer.model";
  const bool has_json = std::filesystem::exists(json, ignored);
  const bool has_model = std::filesystem::exists(model, ignored);
  if (has_json) {
    TokenizerJsonReader reader(json);
    auto parts = reader.read();
    if (parts) return make_bpe_tokenizer(*std::move(parts), *settings);
    if (!has_model || !reader.unsupported()) return parts.error();
  }
  if (has_model) return load_sentencepiece_tokenizer(model, *settings);
  return bad_input(folder, "has neither tokenizer.json nor tokenizer.model");
}

std::string StreamDecoder::push(std::int32_t id) {
  if (special_ == SpecialText::kSkip && tokenizer_.is_special(id)) return {};
  pending_ += tokenizer_.bytes(id);
  if (at_start_ && !pending_.empty()) {
    if (tokenizer_.drops_first_space() && pending_.front() == ' ') pending_.erase(0, 1);
    at_start_ = false;
  }
  const std::size_t complete = pending_.size() - incomplete_utf8_suffix(pending_);
  std::string text = replace_malformed_utf8(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return text;
}

std::string StreamDecoder::finish() { return replace_malformed_utf8(std::exchange(pending_, {})); }

}  // namespace ftplan::data

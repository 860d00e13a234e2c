#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "data/added_tokens.h"

/// What the small files beside a tokenizer say about it.
namespace ftplan::data {

struct TokenizerSettings {
  std::optional<std::string> bos;
  std::optional<std::string> eos;
  std::optional<std::string> unk;
  std::optional<std::string> pad;
  std::vector<AddedToken> added;  ///< `added_tokens_decoder`, by id
  std::vector<std::string> extra_special;
  std::vector<std::string> more;  ///< of the user: added last, where they are not there yet
  bool add_bos = true;   ///< only where the tokenizer's own file does not say: tokenizer.model
  bool add_eos = false;  ///< the same
  bool legacy =
      false;  ///< tokenizer.model: each text after a special token gets a space before it, too
  std::optional<std::int32_t>
      bos_id;  ///< of generation_config.json or config.json, where no token is named
  std::optional<std::int32_t> pad_id;
  std::vector<std::int32_t> eos_ids;

  /// Of what decides which ids a text gets.
  [[nodiscard]] std::string digest() const;
};

/// Reads tokenizer_config.json and special_tokens_map.json, generation_config.json and config.json
/// of their folder, each of which may be missing. As in transformers 5, special_tokens_map.json
/// counts only where tokenizer_config.json has no `added_tokens_decoder`, and then wins; the ids of
/// the other two serve where no token is named.
/// @source transformers 5.23 `tokenization_utils_base.py`, _from_pretrained
/// @error bad input that names file and key
Result<TokenizerSettings> read_tokenizer_settings(const std::string& folder,
                                                  const std::string& model_folder);

}  // namespace ftplan::data

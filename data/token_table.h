#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/added_tokens.h"
#include "data/tokenizer.h"
#include "data/tokenizer_settings.h"

/// Which token has which id, over the vocabulary of the model and the tokens added to it.
namespace ftplan::data {

class TokenTable {
 public:
  /// Adds a token of the model's vocabulary.
  void add_model_token(std::string_view token, std::int32_t id);
  /// Adds `token`, or changes its flags. Its id is the one it has already, else the next free one:
  /// `token.id` is not asked, as in the reference.
  /// @source huggingface/tokenizers `tokenizer/added_vocabulary.rs`, add_tokens
  void add_token(AddedToken token);

  [[nodiscard]] std::optional<std::int32_t> id_of(std::string_view token) const;
  /// Empty for an unknown id.
  [[nodiscard]] const std::string& piece(std::int32_t id) const;
  [[nodiscard]] bool is_special(std::int32_t id) const;
  [[nodiscard]] const AddedToken* added(std::int32_t id) const;
  [[nodiscard]] const std::vector<AddedToken>& added() const { return added_; }
  /// One more than the largest id.
  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(pieces_.size()); }

 private:
  struct Piece {
    std::string text;
    std::int32_t added = -1;  // index in `added_`
  };
  [[nodiscard]] std::int32_t next_id() const;
  Piece& at(std::int32_t id);

  std::int32_t model_tokens_ = 0;
  std::vector<Piece> pieces_;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::vector<AddedToken> added_;
};

/// Adds the tokens that the settings name, and finds the ids that have a meaning.
SpecialIds add_named_tokens(const TokenizerSettings& settings, TokenTable& table);

}  // namespace ftplan::data

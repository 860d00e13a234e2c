#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/result.h"

/// Tokens that are cut out of the text before the model sees it, such as `<|eot_id|>`.
/// @source huggingface/tokenizers `tokenizer/added_vocabulary.rs`
namespace ftplan::data {

struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool single_word = false;  ///< not where a letter or digit touches it
  bool lstrip = false;       ///< takes the white space on its left
  bool rstrip = false;       ///< takes the white space on its right
  bool normalized = true;    ///< looked for after the normalizer, in normalized form
  bool special = false;      ///< left out when decoding
};

/// Reads the flags of one token as tokenizer.json and tokenizer_config.json write them; `id` only
/// where it is there.
Result<AddedToken> read_added_token(const Json& json, const std::string& where);

/// A part of the text: an added token, or text for the model (`token` is -1).
struct TextPart {
  std::int32_t token = -1;
  std::string_view text;
};

/// Finds tokens in text: the leftmost, and of those the longest, each only once.
class AddedTokenMatcher {
 public:
  /// `spellings[i]` is how `tokens[i]` stands in the text.
  AddedTokenMatcher(std::vector<AddedToken> tokens, const std::vector<std::string>& spellings);

  /// The parts of `text` in order; empty text has none. Time: linear, times the longest common
  /// beginning.
  [[nodiscard]] std::vector<TextPart> split(std::string_view text) const;

 private:
  static constexpr std::int32_t kNone = -1;
  struct Node {
    std::vector<std::pair<char, std::int32_t>> children;
    std::int32_t token = kNone;  // index of the token that ends here
  };
  struct Found {
    std::int32_t token = kNone;
    std::size_t size = 0;
  };

  void add(std::string_view spelling, std::int32_t token);
  [[nodiscard]] std::int32_t child_of(std::int32_t node, char byte) const;
  [[nodiscard]] Found longest_at(std::string_view text) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_{Node{}};
  std::array<bool, 256> begins_{};  // whether a token begins with this byte
};

}  // namespace ftplan::data

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/regex.h"
#include "core/result.h"
#include "data/added_tokens.h"
#include "data/bpe.h"

/// The parts of a Hugging Face `tokenizer.json`.
/// @source huggingface/tokenizers, `tokenizer/serialization.rs` and the `Deserialize` of each
/// component
namespace ftplan::data {

/// Changes the text before it is split: composes characters, puts something in front, replaces
/// strings.
struct NormalizerSpec {
  bool nfc = false;
  std::string prepend;
  std::vector<std::pair<std::string, std::string>> replace;
};

/// Where a space, as U+2581, is put in front of the text.
enum class PrependScheme : std::uint8_t { kNever, kFirst, kAlways };

/// How text becomes pieces for the model.
struct PreTokenizerSpec {
  std::vector<Regex>
      splits;  ///< each splits the pieces of the one before; gaps between matches are pieces
  std::vector<Regex> byte_splits;  ///< the same behind ByteLevel, where a byte is a character
  bool add_prefix_space = false;   ///< a text that does not begin with a space gets one
  std::optional<PrependScheme> metaspace;  ///< spaces become U+2581; nothing is split
};

enum class DecoderKind : std::uint8_t {
  kByteLevel,  ///< tokens are bytes in GPT-2's alphabet
  kMetaspace,  ///< U+2581 is a space, `<0xNN>` a byte
};

struct TokenizerParts {
  BpeSpec model;
  std::vector<AddedToken> added;
  NormalizerSpec normalizer;
  PreTokenizerSpec pre_tokenizer;
  DecoderKind decoder = DecoderKind::kByteLevel;
  bool strip_first_space = false;
  std::vector<std::int32_t> before;  ///< ids that the post-processor puts before a text
  std::vector<std::int32_t> after;
  std::string where;   ///< the file
  std::string digest;  ///< of the file's bytes
};

/// Reads one file. Truncation and padding in it are left to the caller of the tokenizer, as
/// transformers does.
class TokenizerJsonReader {
 public:
  explicit TokenizerJsonReader(std::string path) : path_(std::move(path)) {}

  /// @error bad input that names the place, such as `tokenizer.json#/pre_tokenizer`
  Result<TokenizerParts> read();
  /// Whether the error of `read` was about a component that is well formed but not supported.
  [[nodiscard]] bool unsupported() const { return unsupported_; }

 private:
  Result<Json> read_outline(std::string_view text);
  Result<void> read_model(const Json& json);
  Result<void> read_added(const Json& json);
  Result<void> read_normalizer(const Json& json, const std::string& where);
  Result<void> read_pre_tokenizer(const Json& json, const std::string& where);
  Result<void> add_split(const std::string& pattern, const std::string& where);
  Result<void> read_punctuation(const Json& json, const std::string& where);
  Result<void> read_digits(const Json& json, const std::string& where);
  Result<void> read_split(const Json& json, const std::string& where);
  Result<void> read_byte_level(const Json& json, const std::string& where);
  Result<void> read_metaspace(const Json& json, const std::string& where);
  Result<void> read_post_processor(const Json& json, const std::string& where);
  Result<void> read_template(const Json& json, const std::string& where);
  Result<void> read_decoder(const Json& json, const std::string& where);
  Result<void> check_together();
  Error not_supported(const std::string& where, const std::string& what);

  std::string path_;
  TokenizerParts parts_;
  bool byte_level_ = false;
  bool unsupported_ = false;
};

}  // namespace ftplan::data

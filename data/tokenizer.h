#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace ftplan::data {

/// Ids with a meaning of their own; empty where the model has none.
struct SpecialIds {
  std::optional<std::int32_t> bos;
  std::optional<std::int32_t> eos;
  std::optional<std::int32_t> unk;
  std::optional<std::int32_t> pad;
  std::vector<std::int32_t> before;  ///< what the tokenizer puts before a text, such as BOS
  std::vector<std::int32_t> after;   ///< and after it; usually nothing
  std::vector<std::int32_t>
      stop;  ///< generation ends at these: EOS and what generation_config.json adds
};

/// Whether a text gets what the tokenizer puts around it, as `add_special_tokens` of Hugging Face.
enum class Surround : std::uint8_t { kSpecialIds, kNothing };

/// What decoding does with special tokens.
enum class SpecialText : std::uint8_t { kSkip, kShow };

/// Ids of a text, and for each the offset in the text behind what it stands for.
struct EncodedText {
  std::span<const std::int32_t> ids;
  std::span<const std::size_t> ends;
};

/// Encodes text after text and remembers frequent pieces; one per thread.
class Encoder {
 public:
  Encoder() = default;
  virtual ~Encoder() = default;
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  /// Ids of `text` with nothing around it, valid until the next call. Malformed UTF-8 is read as
  /// U+FFFD; special tokens that stand in the text become their ids. Time and memory are linear in
  /// the text.
  /// @error bad input: the tokenizer's own pattern gives up on this text
  virtual Result<std::span<const std::int32_t>> encode(std::string_view text) = 0;
  /// The same, with ends, which do not descend: what a tokenizer puts in front of text counts as
  /// its first byte. Where a vocabulary lacks a byte and drops it, ends up to the next word are
  /// less by what was dropped.
  /// @pre text is well-formed UTF-8
  virtual Result<EncodedText> encode_with_ends(std::string_view text) = 0;
};

/// Text to ids and back, as the model was trained with. Const members may be called from several
/// threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  /// For many texts; `encode` is for one.
  [[nodiscard]] virtual std::unique_ptr<Encoder> encoder() const = 0;
  [[nodiscard]] Result<std::vector<std::int32_t>> encode(
      std::string_view text, Surround surround = Surround::kSpecialIds) const;

  /// Ids that are in no vocabulary are left out; bytes that are no UTF-8 become U+FFFD.
  [[nodiscard]] virtual std::string decode(std::span<const std::int32_t> ids,
                                           SpecialText special = SpecialText::kSkip) const = 0;
  /// The bytes that `id` adds to a text, which may be part of a character. Used where ids come one
  /// by one.
  [[nodiscard]] virtual std::string bytes(std::int32_t id) const = 0;
  /// Whether decoding drops one space at the start of a text.
  [[nodiscard]] virtual bool drops_first_space() const = 0;

  /// The token as the vocabulary spells it, such as `Ġthe`; empty for an unknown id.
  [[nodiscard]] virtual std::string piece(std::int32_t id) const = 0;
  [[nodiscard]] virtual bool is_special(std::int32_t id) const = 0;
  /// One more than the largest id.
  [[nodiscard]] virtual std::int64_t vocabulary() const = 0;

  [[nodiscard]] const SpecialIds& special() const { return special_; }
  /// Of everything that decides which ids a text gets.
  [[nodiscard]] const std::string& digest() const { return digest_; }

 protected:
  Tokenizer(SpecialIds special, std::string digest)
      : special_(std::move(special)), digest_(std::move(digest)) {}

 private:
  SpecialIds special_;
  std::string digest_;
};

/// Where a tokenizer lies, and what is added to it.
struct TokenizerSource {
  std::string folder;
  /// Whose generation_config.json and config.json tell ids where no token is named; empty: `folder`
  std::string model_folder;
  /// Get the next free ids, in this order; those that it has already keep theirs.
  std::vector<std::string> added;
};

/// Reads the tokenizer of a model folder: `tokenizer.json` (byte-level BPE as GPT-2, Llama 3, Qwen2
/// and Falcon have it, or BPE with U+2581 for spaces as Llama 2, Phi-3 and Gemma), else
/// `tokenizer.model` (SentencePiece), which also serves where the tokenizer.json beside it is of a
/// kind that is not supported.
/// @error bad input that names the file, and the component that is not supported
Result<std::unique_ptr<Tokenizer>> load_tokenizer(const TokenizerSource& source);
Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::string& folder);

/// Decodes ids that come one by one: a character is given out when its last byte is there.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, SpecialText special = SpecialText::kSkip)
      : tokenizer_(tokenizer), special_(special) {}

  /// The text that is complete now; often a word, sometimes nothing.
  std::string push(std::int32_t id);
  /// What is left at the end.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  SpecialText special_;
  bool at_start_ = true;
  std::string pending_;
};

}  // namespace ftplan::data

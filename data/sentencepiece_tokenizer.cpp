#include "data/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/digest.h"
#include "core/result.h"
#include "data/added_tokens.h"
#include "data/mapped_file.h"
#include "data/mix.h"
#include "data/piece_cache.h"
#include "data/sentencepiece_proto.h"
#include "data/token_table.h"
#include "data/tokenizer.h"
#include "data/tokenizer_settings.h"
#include "data/utf8.h"

// Note [Words]
//
// The library needs tens of bytes of memory for each byte of a text and knows no cache. Where no
// piece of the vocabulary holds a space after another character, a BPE model can never merge across
// such a place; the text is cut there, each word is encoded alone and remembered. Otherwise the
// text goes to the library as a whole.
namespace ftplan::data {
namespace {

// The library's model, once as it is and once without a space in front of the text.
struct Processors {
  sentencepiece::SentencePieceProcessor with_prefix;
  sentencepiece::SentencePieceProcessor plain;
  bool separates_words = false;
  bool legacy = false;

  [[nodiscard]] const sentencepiece::SentencePieceProcessor& at(bool first) const {
    return first || legacy ? with_prefix : plain;
  }
};

// Whether a space stands behind another character inside of `piece`.
bool has_inner_space(std::string_view piece) {
  for (std::size_t at = piece.find(kMeta); at != std::string_view::npos;
       at = piece.find(kMeta, at + 1)) {
    if (!piece.substr(0, at).empty() && !piece.substr(0, at).ends_with(kMeta)) return true;
  }
  return false;
}

bool separates_words(const sentencepiece::SentencePieceProcessor& processor,
                     const SentencePieceSettings& settings) {
  if (!settings.bpe || settings.remove_extra_whitespaces || !settings.escape_whitespaces ||
      settings.has_character_map || settings.whitespace_as_suffix) {
    return false;
  }
  for (int id = 0; id < processor.GetPieceSize(); ++id) {
    if (has_inner_space(processor.IdToPiece(id))) return false;
  }
  return true;
}

// The end of the word at the start of `text`: spaces, then everything up to the next space.
std::size_t word_end(std::string_view text) {
  std::size_t end = std::min(text.find_first_not_of(' '), text.size());
  while (end < text.size()) {
    end = std::min(text.find(' ', end), text.size());
    // U+2581 in the text is a space for the model, so a run of both is not cut.
    if (!text.substr(0, end).ends_with(kMeta)) break;
    end = std::min(text.find_first_not_of(' ', end), text.size());
  }
  return end;
}

class SentencePieceEncoder : public Encoder {
 public:
  SentencePieceEncoder(const Processors& processors, const AddedTokenMatcher& added)
      : processors_(processors), added_(added) {}

  Result<std::span<const std::int32_t>> encode(std::string_view text) override {
    tracks_ends_ = false;
    encode_all(text);
    return std::span<const std::int32_t>(ids_);
  }

  Result<EncodedText> encode_with_ends(std::string_view text) override {
    tracks_ends_ = true;
    encode_all(text);
    return EncodedText{ids_, ends_};
  }

 private:
  void encode_all(std::string_view text) {
    ids_.clear();
    ends_.clear();
    std::string replaced;
    if (find_malformed_utf8(text) != std::string_view::npos) {
      replaced = replace_malformed_utf8(text);
      text = replaced;
    }
    for (const TextPart& part : added_.split(text)) {
      offset_ = static_cast<std::size_t>(part.text.data() - text.data());
      if (part.token >= 0) {
        ids_.push_back(part.token);
        if (tracks_ends_) ends_.push_back(offset_ + part.text.size());
      } else {
        encode_text(part.text, offset_ == 0);
      }
    }
  }

  void encode_text(std::string_view text, bool first) {
    if (!processors_.separates_words) return encode_with(processors_.at(first), text);
    const std::size_t head = word_end(text);
    encode_with(processors_.at(first), text.substr(0, head));
    for (text.remove_prefix(head); !text.empty();) {
      const std::string_view word = text.substr(0, word_end(text));
      encode_word(word);
      text.remove_prefix(word.size());
    }
  }

  void encode_word(std::string_view word) {
    // What is remembered has no ends.
    if (tracks_ends_) return encode_with(processors_.plain, word);
    const std::uint64_t hash = hash_bytes(word);
    if (const auto known = cache_.find(word, hash)) {
      ids_.insert(ids_.end(), known->begin(), known->end());
      return;
    }
    const std::size_t before = ids_.size();
    encode_with(processors_.plain, word);
    cache_.insert(word, hash, std::span(ids_).subspan(before));
  }

  void encode_with(const sentencepiece::SentencePieceProcessor& processor, std::string_view text) {
    if (tracks_ends_) return encode_tracked(processor, text);
    // Fails only on a processor that is not loaded.
    processor.Encode(text, &word_ids_).IgnoreError();
    ids_.insert(ids_.end(), word_ids_.begin(), word_ids_.end());
  }

  // Words come one behind the other, so `offset_` moves with them.
  void encode_tracked(const sentencepiece::SentencePieceProcessor& processor,
                      std::string_view text) {
    const auto encoded = processor.EncodeAsImmutableProto(text);
    std::size_t end = 0;
    for (const auto& piece : encoded.pieces()) {
      ids_.push_back(static_cast<std::int32_t>(piece.id()));
      // The library gives all bytes of a character to its last piece.
      end = processor.IsByte(static_cast<int>(piece.id())) ? end + 1 : piece.end();
      ends_.push_back(offset_ + std::max<std::size_t>(end, 1));
    }
    offset_ += text.size();
  }

  const Processors& processors_;
  const AddedTokenMatcher& added_;
  PieceCache cache_;
  std::vector<int> word_ids_;
  std::vector<std::int32_t> ids_;
  std::vector<std::size_t> ends_;
  std::size_t offset_ = 0;  // of what is encoded next, in the text
  bool tracks_ends_ = false;
};

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(SpecialIds special, std::string digest,
                         std::unique_ptr<Processors> processors, TokenTable table)
      : Tokenizer(std::move(special), std::move(digest)),
        processors_(std::move(processors)),
        table_(std::move(table)),
        added_(table_.added(), spellings(table_)) {}

  [[nodiscard]] std::unique_ptr<Encoder> encoder() const override {
    return std::make_unique<SentencePieceEncoder>(*processors_, added_);
  }
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids,
                                   SpecialText special) const override;
  [[nodiscard]] std::string bytes(std::int32_t id) const override;
  [[nodiscard]] bool drops_first_space() const override { return true; }
  [[nodiscard]] std::string piece(std::int32_t id) const override { return table_.piece(id); }
  [[nodiscard]] bool is_special(std::int32_t id) const override { return table_.is_special(id); }
  [[nodiscard]] std::int64_t vocabulary() const override { return table_.size(); }

 private:
  static std::vector<std::string> spellings(const TokenTable& table) {
    std::vector<std::string> all;
    for (const AddedToken& token : table.added()) all.push_back(token.content);
    return all;
  }

  std::unique_ptr<Processors> processors_;
  TokenTable table_;
  AddedTokenMatcher added_;
};

std::string SentencePieceTokenizer::decode(std::span<const std::int32_t> ids,
                                           SpecialText special) const {
  std::string text;
  std::vector<int> run;
  bool first = true;
  const auto flush = [&] {
    if (run.empty()) return;
    std::string part;
    processors_->at(std::exchange(first, false)).Decode(run, &part).IgnoreError();
    text += part;
    run.clear();
  };
  for (const std::int32_t id : ids) {
    const AddedToken* added = table_.added(id);
    if (added != nullptr && added->special && special == SpecialText::kSkip) continue;
    if (added != nullptr) {
      flush();
      text += added->content;
    } else if (id >= 0 && id < processors_->plain.GetPieceSize()) {
      run.push_back(id);
    }
  }
  flush();
  return text;
}

std::string SentencePieceTokenizer::bytes(std::int32_t id) const {
  const AddedToken* added = table_.added(id);
  if (added != nullptr) return added->content;
  if (id < 0 || id >= processors_->plain.GetPieceSize()) return {};
  if (processors_->plain.IsControl(id)) return {};
  const std::string& piece = table_.piece(id);
  if (processors_->plain.IsByte(id)) {
    constexpr int kHexadecimal = 16;
    return {static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, kHexadecimal))};
  }
  std::string text;
  for (std::size_t at = 0; at < piece.size();) {
    const bool meta = std::string_view(piece).substr(at).starts_with(kMeta);
    text += meta ? ' ' : piece[at];
    at += meta ? kMeta.size() : 1;
  }
  return text;
}

// The named tokens of the files beside it, or the model's own.
TokenizerSettings with_model_tokens(TokenizerSettings settings,
                                    const sentencepiece::SentencePieceProcessor& model) {
  const auto fill = [&](std::optional<std::string>& token, int id) {
    if (!token && id >= 0) token = model.IdToPiece(id);
  };
  fill(settings.bos, model.bos_id());
  fill(settings.eos, model.eos_id());
  fill(settings.unk, model.unk_id());
  fill(settings.pad, model.pad_id());
  return settings;
}

// A model that the library refuses by a status, or, where its trie cannot hold the pieces, by an
// exception.
bool load_processor(sentencepiece::SentencePieceProcessor& processor, std::string_view model) {
  try {
    return processor.LoadFromSerializedProto(model).ok();
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> load_sentencepiece_tokenizer(const std::string& path,
                                                                const TokenizerSettings& settings) {
  const auto file = MappedFile::open(path);
  if (!file) return file.error();
  auto processors = std::make_unique<Processors>();
  if (!load_processor(processors->with_prefix, file->bytes()) ||
      !load_processor(processors->plain, without_dummy_prefix(file->bytes()))) {
    return bad_input(path, "is not a SentencePiece model");
  }
  processors->legacy = settings.legacy;
  processors->separates_words =
      separates_words(processors->plain, read_sentencepiece_settings(file->bytes()));
  TokenTable table;
  for (int id = 0; id < processors->plain.GetPieceSize(); ++id) {
    table.add_model_token(processors->plain.IdToPiece(id), id);
  }
  SpecialIds special = add_named_tokens(with_model_tokens(settings, processors->plain), table);
  if (settings.add_bos && special.bos) special.before.push_back(*special.bos);
  if (settings.add_eos && special.eos) special.after.push_back(*special.eos);
  return std::unique_ptr<Tokenizer>(std::make_unique<SentencePieceTokenizer>(
      std::move(special), digest(digest(file->bytes()) + settings.digest()), std::move(processors),
      std::move(table)));
}

}  // namespace ftplan::data

#include "data/bpe_tokenizer.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/digest.h"
#include "core/regex.h"
#include "core/result.h"
#include "data/added_tokens.h"
#include "data/bpe.h"
#include "data/byte_alphabet.h"
#include "data/mix.h"
#include "data/piece_cache.h"
#include "data/token_table.h"
#include "data/tokenizer.h"
#include "data/tokenizer_json.h"
#include "data/tokenizer_settings.h"
#include "data/utf8.h"
#include "data/working_text.h"

// Note [Pipeline]
//
// text -> added tokens that are not normalized are cut out -> normalizer -> those that are
// normalized are cut out -> pre-tokenizer -> model. As in the reference, each step sees only its
// own part of the text: a space that a normalizer puts in front comes after every added token, too.
// Pieces are cached by their text.
namespace ftplan::data {
namespace {

// `<0xNN>` as its byte.
std::optional<char> byte_of(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  unsigned value = 0;
  for (const char digit : token.substr(3, 2)) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    const char upper = digit >= 'a' && digit <= 'f' ? static_cast<char>(digit - 'a' + 'A') : digit;
    const std::size_t found = kDigits.find(upper);
    if (found == std::string_view::npos) return std::nullopt;
    value = 16 * value + static_cast<unsigned>(found);
  }
  return static_cast<char>(value);
}

// Everything that encoders share.
struct Pipeline {
  BpeModel model;
  NormalizerSpec normalizer;
  PreTokenizerSpec pre_tokenizer;
  AddedTokenMatcher raw;         // cut out before the normalizer
  AddedTokenMatcher normalized;  // and after it

  [[nodiscard]] WorkingText normalize(const Part& part, Tracking tracking) const {
    WorkingText text(part, tracking);
    if (normalizer.nfc) text.compose();
    if (!part.text.empty()) text.prepend(normalizer.prepend);
    for (const auto& [from, to] : normalizer.replace) text.replace_all(from, to);
    return text;
  }
  [[nodiscard]] bool normalizes() const {
    return normalizer.nfc || !normalizer.prepend.empty() || !normalizer.replace.empty();
  }
};

class BpeEncoder : public Encoder {
 public:
  explicit BpeEncoder(const Pipeline& pipeline) : pipeline_(pipeline) {
    for (const Regex& split : pipeline.pre_tokenizer.splits) splits_.emplace_back(split);
    for (const Regex& split : pipeline.pre_tokenizer.byte_splits) byte_splits_.emplace_back(split);
  }

  Result<std::span<const std::int32_t>> encode(std::string_view text) override {
    tracking_ = Tracking::kOff;
    if (auto done = encode_all(text); !done) return done.error();
    return std::span<const std::int32_t>(ids_);
  }

  Result<EncodedText> encode_with_ends(std::string_view text) override {
    tracking_ = Tracking::kOn;
    if (auto done = encode_all(text); !done) return done.error();
    return EncodedText{ids_, ends_};
  }

 private:
  Result<void> encode_all(std::string_view text) {
    ids_.clear();
    ends_.clear();
    std::string replaced;
    if (find_malformed_utf8(text) != std::string_view::npos) {
      replaced = replace_malformed_utf8(text);
      text = replaced;
    }
    const Part all{.text = text};
    for (const TextPart& part : pipeline_.raw.split(text)) {
      const bool first = part.text.data() == text.data();
      const Part its = all.part_at(part.text);
      const auto done = part.token >= 0 ? push(part.token, its) : encode_raw(its, first);
      if (!done) return done.error();
    }
    return {};
  }

  Result<void> push(std::int32_t id, const Part& part) {
    ids_.push_back(id);
    if (tracking_ == Tracking::kOn) ends_.push_back(part.end_of(part.text.size()));
    return {};
  }

  Result<void> encode_raw(const Part& part, bool first) {
    if (!pipeline_.normalizes()) return encode_normal(part, first);
    const WorkingText normal = pipeline_.normalize(part, tracking_);
    return encode_normal(normal.part(), first);
  }

  Result<void> encode_normal(const Part& all, bool first) {
    for (const TextPart& part : pipeline_.normalized.split(all.text)) {
      const bool still_first = first && part.text.data() == all.text.data();
      const Part its = all.part_at(part.text);
      const auto done = part.token >= 0 ? push(part.token, its) : encode_text(its, still_first);
      if (!done) return done.error();
    }
    return {};
  }

  // Text without added tokens.
  Result<void> encode_text(const Part& part, bool first) {
    const PreTokenizerSpec& spec = pipeline_.pre_tokenizer;
    if (spec.metaspace) {
      WorkingText text(part, tracking_);
      text.replace_all(" ", kMeta);
      const bool prepend = *spec.metaspace == PrependScheme::kAlways ||
                           (*spec.metaspace == PrependScheme::kFirst && first);
      if (prepend && !text.bytes().starts_with(kMeta)) text.prepend(kMeta);
      return encode_words(text.part());
    }
    if (spec.add_prefix_space && !part.text.starts_with(' ')) {
      WorkingText text(part, tracking_);
      text.prepend(" ");
      return split(text.part(), 0);
    }
    if (splits_.empty() && pipeline_.model.separates_words()) return encode_words(part);
    return split(part, 0);
  }

  // Each piece through the next step.
  Result<void> split(const Part& part, std::size_t step) {
    if (step == splits_.size()) return encode_piece(part);
    return for_each_piece(splits_[step], part.text, [&](std::size_t begin, std::size_t end) {
      return split(part.part_at(part.text.substr(begin, end - begin)), step + 1);
    });
  }

  // Calls `function(begin, end)` for matches and the gaps between them.
  template <class Function>
  static Result<void> for_each_piece(RegexMatcher& matcher, std::string_view text,
                                     const Function& function) {
    std::size_t done = 0;
    std::size_t from = 0;
    while (from <= text.size()) {
      const auto match = matcher.find(text, from);
      if (!match) return match.error();
      if (!match->has_value()) break;
      const auto [begin, end] = **match;
      if (done < begin) {
        if (auto gap = function(done, begin); !gap) return gap;
      }
      if (begin < end) {
        if (auto piece = function(begin, end); !piece) return piece;
      }
      done = end;
      from = begin < end || end >= text.size() ? end + (begin == end ? 1 : 0)
                                               : end + decode_utf8(text, end).bytes;
    }
    if (done < text.size()) return function(done, text.size());
    return {};
  }

  // Cuts before each U+2581 that follows something else, where no token reaches over; see
  // BpeModel::separates_words.
  Result<void> encode_words(const Part& part) {
    if (!pipeline_.model.separates_words()) return encode_piece(part);
    const std::string_view text = part.text;
    std::size_t begin = 0;
    std::size_t meta = text.starts_with(kMeta) ? kMeta.size() : 0;
    while (begin < text.size()) {
      std::size_t end = begin + meta;
      while (text.substr(end).starts_with(kMeta)) end += kMeta.size();
      end = std::min(text.find(kMeta, end), text.size());
      if (auto done = encode_piece(part.part_at(text.substr(begin, end - begin))); !done) {
        return done;
      }
      begin = end;
      meta = kMeta.size();
    }
    return {};
  }

  Result<void> encode_piece(const Part& part) {
    const std::string_view piece = part.text;
    const std::uint64_t hash = hash_bytes(piece);
    const std::size_t before = ids_.size();
    if (const auto known = cache_.find(piece, hash)) {
      ids_.insert(ids_.end(), known->begin(), known->end());
    } else {
      if (auto made = encode_bytes(piece, 0); !made) return made;
      cache_.insert(piece, hash, std::span(ids_).subspan(before));
    }
    if (tracking_ == Tracking::kOff) return {};
    std::size_t at = 0;
    for (std::size_t i = before; i < ids_.size(); ++i) {
      at += pipeline_.model.bytes_of(ids_[i], piece.substr(at));
      ends_.push_back(part.end_of(std::max<std::size_t>(at, 1)));
    }
    return {};
  }

  // The steps behind ByteLevel see each byte as a character.
  Result<void> encode_bytes(std::string_view piece, std::size_t step) {
    if (step == byte_splits_.size()) {
      pipeline_.model.encode(piece, scratch_, ids_);
      return {};
    }
    std::string spelled;
    std::vector<std::size_t> bytes_before;  // by offset in `spelled`
    for (std::size_t at = 0; at < piece.size(); ++at) {
      append_utf8(byte_characters().at(static_cast<std::uint8_t>(piece[at])), spelled);
      bytes_before.resize(spelled.size(), at);
    }
    bytes_before.push_back(piece.size());
    return for_each_piece(byte_splits_[step], spelled, [&](std::size_t begin, std::size_t end) {
      const std::size_t from = bytes_before[begin];
      return encode_bytes(piece.substr(from, bytes_before[end] - from), step + 1);
    });
  }

  const Pipeline& pipeline_;
  std::vector<RegexMatcher> splits_;
  std::vector<RegexMatcher> byte_splits_;
  PieceCache cache_;
  BpeScratch scratch_;
  std::vector<std::int32_t> ids_;
  std::vector<std::size_t> ends_;
  Tracking tracking_ = Tracking::kOff;
};

class BpeTokenizer : public Tokenizer {
 public:
  BpeTokenizer(SpecialIds special, std::string digest, Pipeline pipeline, TokenTable table,
               DecoderKind decoder, bool strip_first_space)
      : Tokenizer(std::move(special), std::move(digest)),
        pipeline_(std::move(pipeline)),
        table_(std::move(table)),
        decoder_(decoder),
        strip_first_space_(strip_first_space) {}

  [[nodiscard]] std::unique_ptr<Encoder> encoder() const override {
    return std::make_unique<BpeEncoder>(pipeline_);
  }
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids,
                                   SpecialText special) const override;
  [[nodiscard]] std::string bytes(std::int32_t id) const override;
  [[nodiscard]] bool drops_first_space() const override { return strip_first_space_; }
  [[nodiscard]] std::string piece(std::int32_t id) const override { return table_.piece(id); }
  [[nodiscard]] bool is_special(std::int32_t id) const override { return table_.is_special(id); }
  [[nodiscard]] std::int64_t vocabulary() const override { return table_.size(); }

 private:
  // A run of byte tokens is text only if all of it is; else each byte is one U+FFFD.
  static std::string text_of_bytes(const std::string& run) {
    if (find_malformed_utf8(run) == std::string::npos) return run;
    std::string out;
    for (std::size_t i = 0; i < run.size(); ++i) out += kReplacementCharacter;
    return out;
  }

  Pipeline pipeline_;
  TokenTable table_;
  DecoderKind decoder_;
  bool strip_first_space_;
};

std::string BpeTokenizer::bytes(std::int32_t id) const {
  const std::string& token = table_.piece(id);
  if (decoder_ == DecoderKind::kByteLevel) return bytes_of_token(token).value_or(token);
  if (const auto byte = byte_of(token)) return {*byte};
  WorkingText text({.text = token}, Tracking::kOff);
  text.replace_all(kMeta, " ");
  return text.bytes();
}

std::string BpeTokenizer::decode(std::span<const std::int32_t> ids, SpecialText special) const {
  std::string text;
  std::string run;
  for (const std::int32_t id : ids) {
    if (table_.piece(id).empty()) continue;
    if (special == SpecialText::kSkip && table_.is_special(id)) continue;
    if (decoder_ == DecoderKind::kMetaspace && byte_of(table_.piece(id))) {
      run += bytes(id);
      continue;
    }
    text += text_of_bytes(std::exchange(run, {}));
    text += bytes(id);
  }
  text += text_of_bytes(run);
  if (strip_first_space_ && text.starts_with(' ')) text.erase(0, 1);
  return decoder_ == DecoderKind::kByteLevel ? replace_malformed_utf8(text) : text;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> make_bpe_tokenizer(TokenizerParts parts,
                                                      const TokenizerSettings& settings) {
  auto model = BpeModel::build(parts.model, parts.where + "#/model");
  if (!model) return model.error();
  TokenTable table;
  for (const auto& [token, id] : parts.model.vocabulary) table.add_model_token(token, id);
  for (AddedToken& token : parts.added) table.add_token(std::move(token));
  SpecialIds special = add_named_tokens(settings, table);
  special.before = parts.before;
  special.after = parts.after;
  Pipeline pipeline{*std::move(model),
                    std::move(parts.normalizer),
                    std::move(parts.pre_tokenizer),
                    {{}, {}},
                    {{}, {}}};
  std::vector<AddedToken> by_stage[2];
  std::vector<std::string> spellings[2];
  for (const AddedToken& token : table.added()) {
    by_stage[token.normalized ? 1 : 0].push_back(token);
    spellings[token.normalized ? 1 : 0].push_back(
        token.normalized ? pipeline.normalize({.text = token.content}, Tracking::kOff).bytes()
                         : token.content);
  }
  pipeline.raw = {std::move(by_stage[0]), spellings[0]};
  pipeline.normalized = {std::move(by_stage[1]), spellings[1]};
  return std::unique_ptr<Tokenizer>(std::make_unique<BpeTokenizer>(
      std::move(special), digest(parts.digest + settings.digest()), std::move(pipeline),
      std::move(table), parts.decoder, parts.strip_first_space));
}

}  // namespace ftplan::data

#include "data/tokenizer_json.h"

#include <cctype>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/digest.h"
#include "core/json.h"
#include "core/regex.h"
#include "core/result.h"
#include "data/added_tokens.h"
#include "data/bpe.h"
#include "data/json_scan.h"
#include "data/mapped_file.h"
#include "data/utf8.h"

namespace ftplan::data {
namespace {

// @source huggingface/tokenizers `pre_tokenizers/byte_level.rs`, from openai/gpt-2 `src/encoder.py`
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// One character that `Punctuation` splits at: ASCII punctuation and the categories P of Unicode 8,
// of which PCRE2 knows more. The difference is that of the two over all code points.
// @source huggingface/tokenizers `pre_tokenizers/punctuation.rs`; the crate unicode_categories 0.1
constexpr std::string_view kPunctuation =
    R"((?:(?![\x{61D}\x{9FD}\x{A76}\x{C77}\x{C84}\x{1B7D}-\x{1B7E}\x{2E43}-\x{2E4F}\x{2E52}-\x{2E5D})"
    R"(\x{10EAD}\x{10F55}-\x{10F59}\x{10F86}-\x{10F89}\x{1144B}-\x{1144F}\x{1145A}-\x{1145B}\x{1145D})"
    R"(\x{11660}-\x{1166C}\x{116B9}\x{1183B}\x{11944}-\x{11946}\x{119E2}\x{11A3F}-\x{11A46})"
    R"(\x{11A9A}-\x{11A9C}\x{11A9E}-\x{11AA2}\x{11C41}-\x{11C45}\x{11C70}-\x{11C71}\x{11EF7}-\x{11EF8})"
    R"(\x{11FFF}\x{12FF1}-\x{12FF2}\x{16E97}-\x{16E9A}\x{16FE2}\x{1E95E}-\x{1E95F}])"
    R"()[!-\/:-@\[-`{-~\p{P}\x{166D}\x{111C9}]))";

// Tables have an entry for each id up to the largest; no vocabulary has so many.
constexpr std::uint64_t kMostIds = std::uint64_t{1} << 24U;

// `{"token": id, ...}`, too long for a tree.
class VocabularyReader : public JsonReader {
 public:
  std::vector<std::pair<std::string, std::int32_t>> tokens;

  bool start_object(std::size_t /*size*/) override { return ++depth_ == 1 || refuse("an object"); }
  bool key(std::string& key) override {
    key_ = std::move(key);
    return true;
  }
  bool number_unsigned(std::uint64_t id) override {
    if (depth_ != 1 || id >= kMostIds) return refuse(std::to_string(id));
    tokens.emplace_back(std::move(key_), static_cast<std::int32_t>(id));
    return true;
  }

 protected:
  std::string expected() const override {
    return "an object of tokens and their ids, below " + std::to_string(kMostIds);
  }

 private:
  int depth_ = 0;
  std::string key_;
};

// `["a b", ...]` or `[["a", "b"], ...]`.
class MergesReader : public JsonReader {
 public:
  std::vector<std::pair<std::string, std::string>> merges;

  bool start_array(std::size_t /*size*/) override {
    pair_.clear();
    return ++depth_ <= 2 || refuse("a list");
  }
  bool end_array() override {
    if (--depth_ == 0) return true;
    if (pair_.size() != 2) return refuse("a list of " + std::to_string(pair_.size()));
    merges.emplace_back(std::move(pair_[0]), std::move(pair_[1]));
    return true;
  }
  bool string(std::string& text) override {
    if (depth_ == 2) return pair_.push_back(std::move(text)), true;
    // A token holds no space in this older form.
    const std::size_t space = text.find(' ');
    if (depth_ != 1 || space == std::string::npos ||
        text.find(' ', space + 1) != std::string::npos) {
      return refuse("\"" + text + "\"");
    }
    merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    return true;
  }

 protected:
  std::string expected() const override { return "a list of merges, \"a b\" or [\"a\", \"b\"]"; }

 private:
  int depth_ = 0;
  std::vector<std::string> pair_;
};

std::string type_of(const Json& json) {
  if (json.is_null()) return "null";
  const auto type = json.is_object() ? json.find("type") : json.end();
  return type != json.end() && type->is_string() ? type->get<std::string>()
                                                 : "a component without a type";
}

bool flag_of(const Json& json, const char* key, bool otherwise) {
  const auto entry = json.find(key);
  return entry != json.end() && entry->is_boolean() ? entry->get<bool>() : otherwise;
}

std::string text_of(const Json& json, const char* key) {
  const auto entry = json.find(key);
  return entry != json.end() && entry->is_string() ? entry->get<std::string>() : std::string();
}

// The one pattern of a Split or Replace: a regular expression, or a plain string.
std::pair<std::string, std::string> pattern_of(const Json& json) {
  const auto pattern = json.find("pattern");
  if (pattern == json.end() || !pattern->is_object()) return {};
  return {text_of(*pattern, "Regex"), text_of(*pattern, "String")};
}

// A pattern that matches `plain` and nothing else.
std::string escaped(std::string_view plain) {
  std::string pattern;
  for (const char byte : plain) {
    const bool punctuation = std::ispunct(static_cast<unsigned char>(byte)) != 0;
    if (punctuation) pattern += '\\';
    pattern += byte;
  }
  return pattern;
}

// The members of `list_key` of a Sequence, or the component itself. A null component has none.
std::vector<std::pair<const Json*, std::string>> components(const Json& json, const char* list_key,
                                                            const std::string& where) {
  if (json.is_null()) return {};
  if (type_of(json) != "Sequence" || !json.contains(list_key)) return {{&json, where}};
  std::vector<std::pair<const Json*, std::string>> all;
  const Json& list = json[list_key];
  for (std::size_t i = 0; i < list.size(); ++i) {
    all.emplace_back(&list[i], where + "/" + list_key + "/" + std::to_string(i));
  }
  return all;
}

const Json& member(const Json& json, const char* key) {
  static const Json null;
  const auto entry = json.find(key);
  return entry == json.end() ? null : *entry;
}

}  // namespace

Error TokenizerJsonReader::not_supported(const std::string& where, const std::string& what) {
  unsupported_ = true;
  return bad_input(
      where, what +
                 " is not supported; use a model with byte-level BPE (as GPT-2, Llama 3, Qwen2, "
                 "Falcon), with BPE as Llama 2 and Gemma, or with a tokenizer.model");
}

Result<TokenizerParts> TokenizerJsonReader::read() {
  auto file = MappedFile::open(path_);
  if (!file) return file.error();
  parts_.where = path_;
  parts_.digest = digest(file->bytes());
  const auto json = read_outline(file->bytes());
  if (!json) return json.error();
  if (!json->is_object()) return bad_input(path_, "is not a tokenizer: expected an object");
  const auto place = [&](const char* key) { return path_ + "#/" + key; };
  for (const auto& part :
       {read_model(member(*json, "model")), read_added(member(*json, "added_tokens")),
        read_normalizer(member(*json, "normalizer"), place("normalizer")),
        read_pre_tokenizer(member(*json, "pre_tokenizer"), place("pre_tokenizer")),
        read_post_processor(member(*json, "post_processor"), place("post_processor")),
        read_decoder(member(*json, "decoder"), place("decoder")), check_together()}) {
    if (!part) return part.error();
  }
  return std::move(parts_);
}

// Everything but the two long lists as a tree; those are read on the way.
Result<Json> TokenizerJsonReader::read_outline(std::string_view text) {
  std::string outline;
  std::size_t copied = 0;
  const auto cut = [&](std::string_view value, std::string_view stand_in) {
    const auto begin = static_cast<std::size_t>(value.data() - text.data());
    outline += text.substr(copied, begin - copied);
    outline += stand_in;
    copied = begin + value.size();
  };
  // Walks the keys of one object; `visit` gets each key as written, with its quotes.
  const auto walk = [&](std::string_view object, const auto& visit) {
    JsonScanner scanner(object);
    if (!scanner.take('{')) return;
    while (const auto key = scanner.value()) {
      if (!scanner.take(':')) return;
      const auto value = scanner.value();
      if (!value) return;
      visit(*key, *value);
      if (!scanner.take(',')) return;
    }
  };
  VocabularyReader vocabulary;
  MergesReader merges;
  std::string problem;
  walk(text, [&](std::string_view part, std::string_view model) {
    if (part != "\"model\"") return;
    walk(model, [&](std::string_view key, std::string_view value) {
      if (key == "\"vocab\"" && value.starts_with('{')) {
        if (!vocabulary.read(value)) problem = "#/model/vocab: " + vocabulary.problem();
        cut(value, "{}");
      }
      if (key == "\"merges\"" && value.starts_with('[')) {
        if (!merges.read(value)) problem = "#/model/merges: " + merges.problem();
        cut(value, "[]");
      }
    });
  });
  outline += text.substr(copied);
  auto json = parse_json(outline, path_);
  if (json && !problem.empty()) return bad_input(path_, problem);
  parts_.model.vocabulary = std::move(vocabulary.tokens);
  parts_.model.merges = std::move(merges.merges);
  return json;
}

Result<void> TokenizerJsonReader::read_model(const Json& json) {
  const std::string where = path_ + "#/model";
  // Old files leave the type of a BPE out.
  const bool untyped = json.is_object() && !json.contains("type") && json.contains("merges");
  if (!untyped && type_of(json) != "BPE") return not_supported(where, "the model " + type_of(json));
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json& value = member(json, key);
    const bool nothing = value.is_null() ||
                         (value.is_string() && value.get<std::string>().empty()) ||
                         (value.is_number() && value.get<double>() == 0);
    if (!nothing) return not_supported(where + "/" + key, key);
  }
  BpeSpec& model = parts_.model;
  if (member(json, "unk_token").is_string()) model.unk_token = text_of(json, "unk_token");
  model.byte_fallback = flag_of(json, "byte_fallback", false);
  model.fuse_unk = flag_of(json, "fuse_unk", false);
  model.ignore_merges = flag_of(json, "ignore_merges", false);
  if (model.vocabulary.empty()) return bad_input(where + "/vocab", "is missing or empty");
  return {};
}

Result<void> TokenizerJsonReader::read_added(const Json& json) {
  for (std::size_t i = 0; i < (json.is_array() ? json.size() : 0); ++i) {
    auto token = read_added_token(json[i], path_ + "#/added_tokens/" + std::to_string(i));
    if (!token) return token.error();
    parts_.added.push_back(*std::move(token));
  }
  return {};
}

Result<void> TokenizerJsonReader::read_normalizer(const Json& json, const std::string& where) {
  for (const auto& [part, place] : components(json, "normalizers", where)) {
    const std::string type = type_of(*part);
    const std::string plain = pattern_of(*part).second;
    const NormalizerSpec& before = parts_.normalizer;
    if (type == "NFC" && before.prepend.empty() && before.replace.empty()) {
      parts_.normalizer.nfc = true;
    } else if (type == "Prepend" && before.replace.empty()) {
      parts_.normalizer.prepend = text_of(*part, "prepend") + parts_.normalizer.prepend;
    } else if (type == "Replace" && !plain.empty()) {
      parts_.normalizer.replace.emplace_back(plain, text_of(*part, "content"));
    } else {
      return not_supported(place, "the normalizer " + type);
    }
  }
  return {};
}

Result<void> TokenizerJsonReader::read_pre_tokenizer(const Json& json, const std::string& where) {
  for (const auto& [part, place] : components(json, "pretokenizers", where)) {
    const std::string type = type_of(*part);
    const bool again = byte_level_ && (type == "ByteLevel" || type == "Metaspace");
    if (again || parts_.pre_tokenizer.metaspace) {
      return not_supported(place, type + " after the last splitting step");
    }
    const auto read = type == "Split"         ? read_split(*part, place)
                      : type == "Punctuation" ? read_punctuation(*part, place)
                      : type == "Digits"      ? read_digits(*part, place)
                      : type == "ByteLevel"   ? read_byte_level(*part, place)
                      : type == "Metaspace"   ? read_metaspace(*part, place)
                                              : not_supported(place, type);
    if (!read) return read.error();
  }
  return {};
}

Result<void> TokenizerJsonReader::add_split(const std::string& pattern, const std::string& where) {
  auto compiled = Regex::compile(pattern, where);
  if (!compiled) return compiled.error();
  PreTokenizerSpec& spec = parts_.pre_tokenizer;
  (byte_level_ ? spec.byte_splits : spec.splits).push_back(*std::move(compiled));
  return {};
}

Result<void> TokenizerJsonReader::read_punctuation(const Json& json, const std::string& where) {
  // Neighbours that match are one piece, or each is one.
  const std::string behavior = text_of(json, "behavior");
  if (behavior != "Contiguous" && behavior != "Isolated" && !behavior.empty()) {
    return not_supported(where, "Punctuation with behavior " + behavior);
  }
  return add_split(std::string(kPunctuation) + (behavior == "Contiguous" ? "+" : ""), where);
}

Result<void> TokenizerJsonReader::read_digits(const Json& json, const std::string& where) {
  return add_split(flag_of(json, "individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)", where);
}

Result<void> TokenizerJsonReader::read_split(const Json& json, const std::string& where) {
  const std::string behavior = text_of(json, "behavior");
  const auto [regex, plain] = pattern_of(json);
  if (regex.empty() && plain.empty()) return bad_input(where, "Split has no pattern");
  // As Gemma has it: no space is left to split at.
  const auto& replaced = parts_.normalizer.replace;
  const bool never = plain == " " && !replaced.empty() && replaced.back().first == " " &&
                     replaced.back().second == kMeta;
  if (never) return {};
  if (behavior != "Isolated" || flag_of(json, "invert", false)) {
    return not_supported(where, "Split with behavior " + behavior + " or invert");
  }
  return add_split(regex.empty() ? escaped(plain) : regex, where + "/pattern");
}

Result<void> TokenizerJsonReader::read_byte_level(const Json& json, const std::string& where) {
  PreTokenizerSpec& spec = parts_.pre_tokenizer;
  spec.add_prefix_space = flag_of(json, "add_prefix_space", true);
  if (spec.add_prefix_space && !spec.splits.empty()) {
    return not_supported(where, "add_prefix_space after Split");
  }
  if (flag_of(json, "use_regex", true)) {
    if (auto added = add_split(std::string(kGpt2Pattern), where); !added) return added;
  }
  byte_level_ = true;
  return {};
}

Result<void> TokenizerJsonReader::read_metaspace(const Json& json, const std::string& where) {
  if (text_of(json, "replacement") != kMeta || flag_of(json, "split", true)) {
    return not_supported(where, "Metaspace that splits or has another replacement than U+2581");
  }
  if (!parts_.pre_tokenizer.splits.empty()) return not_supported(where, "Metaspace after Split");
  std::string scheme = text_of(json, "prepend_scheme");
  if (scheme.empty()) scheme = flag_of(json, "add_prefix_space", true) ? "always" : "never";
  parts_.pre_tokenizer.metaspace = scheme == "always"  ? PrependScheme::kAlways
                                   : scheme == "first" ? PrependScheme::kFirst
                                                       : PrependScheme::kNever;
  return {};
}

Result<void> TokenizerJsonReader::read_post_processor(const Json& json, const std::string& where) {
  for (const auto& [part, place] : components(json, "processors", where)) {
    const std::string type = type_of(*part);
    // ByteLevel trims offsets, which nobody asks for here.
    if (type == "ByteLevel") continue;
    const auto read = type == "TemplateProcessing" ? read_template(*part, place)
                                                   : Result<void>(not_supported(place, type));
    if (!read) return read.error();
  }
  return {};
}

Result<void> TokenizerJsonReader::read_template(const Json& json, const std::string& where) {
  bool after_text = false;
  for (const Json& piece : member(json, "single")) {
    if (piece.contains("Sequence")) {
      if (std::exchange(after_text, true))
        return not_supported(where, "a template that repeats the text");
      continue;
    }
    const std::string id = text_of(member(piece, "SpecialToken"), "id");
    const Json& token = member(member(json, "special_tokens"), id.c_str());
    if (!token.is_object() || !member(token, "ids").is_array()) {
      return bad_input(where + "/special_tokens", "\"" + id + "\" is missing");
    }
    auto& ids = after_text ? parts_.after : parts_.before;
    for (const Json& value : token["ids"]) {
      if (!value.is_number_unsigned())
        return bad_input(where + "/special_tokens/" + id, "expected ids");
      ids.push_back(value.get<std::int32_t>());
    }
  }
  return {};
}

Result<void> TokenizerJsonReader::read_decoder(const Json& json, const std::string& where) {
  if (type_of(json) == "ByteLevel") return {};
  parts_.decoder = DecoderKind::kMetaspace;
  std::string steps;
  for (const auto& [part, place] : components(json, "decoders", where)) {
    const std::string type = type_of(*part);
    const bool replaces_meta =
        pattern_of(*part).second == kMeta && text_of(*part, "content") == " ";
    const bool strips_space = text_of(*part, "content") == " " && member(*part, "start") == 1 &&
                              member(*part, "stop") == 0;
    if ((type == "Replace" && !replaces_meta) || (type == "Strip" && !strips_space)) {
      return not_supported(place, "the decoder " + type + " with these settings");
    }
    parts_.strip_first_space = parts_.strip_first_space || type == "Strip";
    steps += type + " ";
  }
  if (steps != "Replace ByteFallback Fuse " && steps != "Replace ByteFallback Fuse Strip ") {
    return not_supported(where,
                         "the decoder " + type_of(json) + (steps.empty() ? "" : " of " + steps));
  }
  return {};
}

Result<void> TokenizerJsonReader::check_together() {
  const bool byte_decoder = parts_.decoder == DecoderKind::kByteLevel;
  if (byte_level_ != byte_decoder) {
    return not_supported(path_ + "#/decoder", "a decoder of another kind than the pre_tokenizer");
  }
  const bool normalizes = !parts_.normalizer.prepend.empty() || !parts_.normalizer.replace.empty();
  if (byte_level_ && (parts_.model.byte_fallback || normalizes)) {
    return not_supported(path_, "ByteLevel with byte_fallback, Prepend or Replace");
  }
  parts_.model.alphabet = byte_level_ ? Alphabet::kBytes : Alphabet::kCharacters;
  return {};
}

}  // namespace ftplan::data

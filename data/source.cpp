#include "data/source.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/data_options.h"
#include "core/enums.h"
#include "core/result.h"
#include "core/text.h"
#include "data/json_scan.h"
#include "data/mapped_file.h"
#include "data/utf8.h"

namespace ftplan::data {
namespace {

constexpr std::string_view kSpace = " \t\r\n";
/// @source apache/parquet-format README.md: the first and the last four bytes of a file
constexpr std::string_view kParquetMagic = "PAR1";

// The keys of a JSON object, as written between their quotes; as many as can be read.
std::vector<std::string> keys_of(std::string_view object) {
  std::vector<std::string> keys;
  JsonScanner scanner(object);
  if (!scanner.take('{')) return keys;
  while (const auto key = scanner.value()) {
    if (key->size() < 2 || !scanner.take(':')) break;
    keys.emplace_back(key->substr(1, key->size() - 2));
    // Columns of tokens can be long: the first key says enough.
    if (keys.front() == "input_ids" || keys.front() == "labels" || !scanner.value()) break;
    if (!scanner.take(',')) break;
  }
  return keys;
}

std::optional<DataFormat> format_of_keys(const std::vector<std::string>& keys) {
  const auto has = [&](const char* key) { return std::ranges::find(keys, key) != keys.end(); };
  if (has("input_ids") || (!keys.empty() && keys.front() == "labels")) return DataFormat::kTokens;
  if (has("instruction") && has("output")) return DataFormat::kAlpaca;
  if (has("instruction") && has("response")) return DataFormat::kDolly;
  if (has("messages") || has("conversations")) return DataFormat::kChat;
  if (has("text")) return DataFormat::kText;
  return std::nullopt;
}

// Readable as one word by a shell.
std::string shell_word(const std::string& text) {
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

// What Parquet holds becomes lines with the same keys, a batch of rows at a time.
Error parquet(const std::string& path) {
  const std::string lines = std::filesystem::path(path).replace_extension(".jsonl").string();
  return bad_input(
      path,
      "is Parquet, which is not read yet: convert it with  python3 -c \"import json, sys, "
      "pyarrow.parquet as p; [print(json.dumps(row)) for batch in "
      "p.ParquetFile(sys.argv[1]).iter_batches() for row in batch.to_pylist()]\" " +
          shell_word(path) + " > " + shell_word(lines));
}

// A list, lines or plain text, by ending, first character and what the user says.
Layout layout_of(const std::string& path, std::string_view text, std::optional<DataFormat> format) {
  const std::string ending = std::filesystem::path(path).extension().string();
  const bool may_be_prose = format.value_or(DataFormat::kText) == DataFormat::kText;
  if (may_be_prose && (ending == ".txt" || ending == ".md")) return Layout::kPlainText;
  const char first = text[text.find_first_not_of(kSpace)];
  if (first == '[') return Layout::kJsonList;
  const bool is_json = ending == ".json" || ending == ".jsonl" || ending == ".ndjson";
  return first == '{' || is_json || !may_be_prose ? Layout::kJsonLines : Layout::kPlainText;
}

std::string_view first_record(Layout layout, std::string_view text) {
  JsonScanner scanner(text);
  if (layout == Layout::kJsonList) scanner.take('[');
  // Without a closing bracket the keys can still be read.
  const std::size_t begin = std::min(text.find_first_not_of(kSpace, scanner.offset()), text.size());
  return text.substr(begin);
}

Result<SourceFile> recognize(SourceFile source, std::optional<DataFormat> format) {
  const std::string_view text = source.text();
  source.layout = layout_of(source.path, text, format);
  if (format || source.layout == Layout::kPlainText) {
    source.format = format.value_or(DataFormat::kText);
  } else {
    const auto keys = keys_of(first_record(source.layout, text));
    const auto found = format_of_keys(keys);
    if (!found) {
      return bad_input(source.path,
                       "the format cannot be told from the first record, whose keys are " +
                           (keys.empty() ? "none" : join(keys, ", ")) +
                           "; expected instruction and output (alpaca), instruction and "
                           "response (dolly), messages or conversations (chat), text, or input_ids "
                           "(tokens); --format names it");
    }
    source.format = *found;
  }
  if (source.format == DataFormat::kTokens) source.layout = Layout::kJsonObject;
  return source;
}

}  // namespace

std::string_view SourceFile::text() const { return without_byte_order_mark(file.bytes()); }

Result<SourceFile> open_source(const std::string& path, std::optional<DataFormat> format) {
  auto file = MappedFile::open(path);
  if (!file) return file.error();
  SourceFile source{.path = path, .file = *std::move(file)};
  if (source.text().find_first_not_of(kSpace) == std::string_view::npos) {
    return bad_input(path, "is empty");
  }
  const bool named = std::filesystem::path(path).extension() == ".parquet";
  if (source.text().starts_with(kParquetMagic) && (named || source.text().ends_with(kParquetMagic)))
    return parquet(path);
  return recognize(std::move(source), format);
}

Result<std::vector<SourceFile>> open_sources(const std::vector<std::string>& paths,
                                             std::optional<DataFormat> format) {
  if (paths.empty()) return bad_input("--data", "no file to learn from");
  std::vector<SourceFile> sources;
  for (const std::string& path : paths) {
    auto source = open_source(path, format);
    if (!source) return source.error();
    if (!sources.empty() && sources.front().format != source->format) {
      return bad_input(path, "holds " + std::string(to_text(source->format)) + ", but " +
                                 sources.front().path + " holds " +
                                 to_text(sources.front().format) + ": give files of one format");
    }
    sources.push_back(*std::move(source));
  }
  return sources;
}

std::string record_place(const std::string& path, std::int64_t number) {
  return path + " record " + std::to_string(number);
}

RecordReader::RecordReader(const SourceFile& source) : source_(source), text_(source.text()) {}

Result<std::optional<Record>> RecordReader::next() {
  if (source_.layout == Layout::kJsonList) return next_of_list();
  if (source_.layout == Layout::kJsonLines) return next_line();
  if (std::exchange(ended_, true)) return std::optional<Record>{};
  return std::optional(Record{text_, ++number_});
}

std::optional<Record> RecordReader::next_line() {
  while (at_ < text_.size()) {
    const std::size_t end = std::min(text_.find('\n', at_), text_.size());
    const std::string_view line = text_.substr(at_, end - at_);
    at_ = end + 1;
    if (line.find_first_not_of(kSpace) != std::string_view::npos) return Record{line, ++number_};
  }
  return std::nullopt;
}

Result<std::optional<Record>> RecordReader::next_of_list() {
  if (ended_) return std::optional<Record>{};
  JsonScanner scanner(text_.substr(at_));
  const auto broken = [&](const std::string& problem) {
    return bad_input(record_place(source_.path, number_ + 1), "not valid JSON: " + problem);
  };
  const bool first = number_ == 0;
  if (first) scanner.take('[');
  if (scanner.take(']')) {
    if (!scanner.at_end()) return broken("text after the end of the list");
    ended_ = true;
    return std::optional<Record>{};
  }
  if (!first && !scanner.take(',')) {
    return broken(scanner.at_end() ? "the list does not end; the file is cut off"
                                   : "expected a comma before it");
  }
  const auto value = scanner.value();
  if (!value) return broken("no whole record; the file is cut off, or a comma is one too many");
  at_ += scanner.offset();
  return std::optional(Record{*value, ++number_});
}

}  // namespace ftplan::data

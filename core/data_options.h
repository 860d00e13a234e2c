#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/enums.h"
#include "core/fields.h"

namespace ftplan {

enum class DataFormat : std::uint8_t { kAlpaca, kText, kTokens, kDolly, kChat };
template <>
inline constexpr auto names<DataFormat> =
    std::array{Name{DataFormat::kAlpaca, "alpaca"}, Name{DataFormat::kText, "text"},
               Name{DataFormat::kTokens, "tokens"}, Name{DataFormat::kDolly, "dolly"},
               Name{DataFormat::kChat, "chat"}};

/// How documents share rows: not at all; several to a row, each seeing only itself; or run
/// together.
enum class Packing : std::uint8_t { kNone, kIsolated, kConcat };
template <>
inline constexpr auto names<Packing> =
    std::array{Name{Packing::kNone, "none"}, Name{Packing::kIsolated, "isolated"},
               Name{Packing::kConcat, "concat"}};

/// What the model learns from and how it becomes rows of tokens.
struct DataOptions {
  std::vector<std::string> data;
  std::vector<double> weights;
  std::optional<DataFormat> format;
  std::optional<std::string> prompt_template;
  std::optional<std::int64_t> seq;
  Packing packing = Packing::kNone;
  std::int64_t pad_multiple = 64;
  double validation = 0;
  bool train_on_prompt = false;
  bool shuffle = true;
  std::vector<std::string> add_tokens;
  std::optional<std::int64_t> pad_vocabulary_to;

  friend bool operator==(const DataOptions&, const DataOptions&) = default;
};

template <>
inline constexpr auto fields<DataOptions> = std::tuple{
    Field{"data", &DataOptions::data, "Files to learn from."},
    Field{"weights", &DataOptions::weights, "", Range{1e-3, 1e3},
          "How often an epoch goes over each file of --data, such as 2,0.5; once when left out."},
    Field{"format", &DataOptions::format, "What the files hold; found out when left out."},
    Field{"template", &DataOptions::prompt_template,
          "Chat template by name, or file with {instruction}, {input}, {response}; found out when "
          "left "
          "out."},
    Field{"seq", &DataOptions::seq, "tokens", Range{2, 1 << 24},
          "Longest row; longer ones are truncated. Default: 2048, or the model's positions if "
          "fewer."},
    Field{"packing", &DataOptions::packing, "How documents share rows."},
    Field{"pad_multiple", &DataOptions::pad_multiple, "tokens", Range{1, 1 << 16},
          "A batch is padded to its longest row, rounded up to this."},
    Field{"validation", &DataOptions::validation, "", Range{0, 0.9},
          "Share of the documents that is held out and evaluated."},
    Field{"train_on_prompt", &DataOptions::train_on_prompt,
          "Learn the prompt's tokens too, not only the answer's."},
    Field{"shuffle", &DataOptions::shuffle, "Draw rows in random order; off: in file order."},
    Field{"add_tokens", &DataOptions::add_tokens,
          "Tokens that the tokenizer gets, or a file with one in each line; embedding and head get "
          "rows for them, which must be trained."},
    Field{"pad_vocabulary_to", &DataOptions::pad_vocabulary_to, "tokens", Range{1, 1 << 16},
          "Embedding and head get a row for every id of the tokenizer, and more up to a multiple "
          "of this."}};

/// How many rows are padded to a length when they are the longest of their batch.
struct LengthCount {
  std::int64_t tokens = 0;  ///< a multiple of `pad_multiple`
  std::int64_t rows = 0;
  friend bool operator==(const LengthCount&, const LengthCount&) = default;
};
template <>
inline constexpr auto fields<LengthCount> = std::tuple{
    Field{"tokens", &LengthCount::tokens, "tokens", Range{1, 1 << 24}, "Padded length."},
    Field{"rows", &LengthCount::rows, "", Range{1, 1e12}, "Rows of that padded length."}};

/// What the data has become: all that a plan needs to know of it.
struct DataFacts {
  std::int64_t rows = 0;             ///< training rows after packing
  std::int64_t validation_rows = 0;  ///< held-out rows after packing
  std::int64_t longest = 0;          ///< tokens in the longest row of both
  std::int64_t tokens = 0;           ///< tokens in all training rows
  std::int64_t target_tokens = 0;    ///< those with a label
  std::vector<LengthCount> lengths;  ///< of the training rows, ascending: one program for each
  std::vector<LengthCount> validation_lengths;  ///< of the held-out rows, ascending
  std::string digest;                           ///< of the tokenized rows
  std::optional<std::int64_t> drawn_rows;       ///< rows of an epoch, where weights change it

  [[nodiscard]] std::int64_t epoch_rows() const { return drawn_rows.value_or(rows); }

  friend bool operator==(const DataFacts&, const DataFacts&) = default;
};

template <>
inline constexpr auto fields<DataFacts> = std::tuple{
    Field{"rows", &DataFacts::rows, "Training rows."},
    Field{"validation_rows", &DataFacts::validation_rows, "Held-out rows."},
    Field{"longest", &DataFacts::longest, "Tokens in the longest row."},
    Field{"tokens", &DataFacts::tokens, "Tokens in all training rows."},
    Field{"target_tokens", &DataFacts::target_tokens, "Training tokens with a label."},
    Field{"lengths", &DataFacts::lengths, "Training rows by padded length."},
    Field{"validation_lengths", &DataFacts::validation_lengths, "Held-out rows by padded length."},
    Field{"digest", &DataFacts::digest, "Of the tokenized rows."},
    Field{"drawn_rows", &DataFacts::drawn_rows, "Rows of an epoch, where weights change it."}};

}  // namespace ftplan

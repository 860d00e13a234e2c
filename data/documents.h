#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "data/chat_template.h"
#include "data/instruction.h"
#include "data/source.h"
#include "data/tokenizer.h"

/// Records as tokens, before they are cut and packed into rows.
namespace ftplan::data {

/// The label of a token that is not learned, as in PyTorch's cross-entropy.
inline constexpr std::int32_t kNoLabel = -100;

/// Tokens of all documents in one piece of memory; labels lie at their own token, not shifted.
struct Documents {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;     ///< the id, or kNoLabel
  std::vector<std::int64_t> ends;       ///< offset after each document's last token
  std::vector<std::int64_t> file_ends;  ///< number of the document after each file's last one

  [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(ends.size()); }
  [[nodiscard]] std::int64_t begin(std::int64_t document) const;
  [[nodiscard]] std::int64_t length(std::int64_t document) const;
  [[nodiscard]] std::span<const std::int32_t> ids_of(std::int64_t document) const;
  [[nodiscard]] std::span<const std::int32_t> labels_of(std::int64_t document) const;

  /// Ends a document whose tokens have been appended to `ids` and `labels`.
  void close_document() { ends.push_back(static_cast<std::int64_t>(ids.size())); }
  void close_file() { file_ends.push_back(count()); }
  /// Appends documents of the same file.
  void append(const Documents& other);

  friend bool operator==(const Documents&, const Documents&) = default;
};

struct ReadOptions {
  bool train_on_prompt = false;
  std::optional<InstructionTemplate> instruction;  ///< for instruction formats, and only for them
  std::optional<ChatTemplate> chat;                ///< for chat, and only for that
  int threads = 0;  ///< 0: as many as the machine has; the result does not depend on it
};

/// Tokenizes the records of `sources`, one document each, in file order.
///
/// alpaca, dolly   prompt and answer of their template as one text, then EOS; the prompt's labels
/// are kNoLabel text            the text, then EOS where the tokenizer has one These begin with
/// what the tokenizer puts before a text (BOS). chat            the conversation in its template
/// and nothing around it; a label have the tokens
///                 that hold a byte of what the template says is learned
/// @pre at least one source; all of one format, which is not tokens; a template where it needs
/// one
/// @error bad input that names file and record
Result<Documents> read_documents(std::span<const SourceFile> sources, const Tokenizer& tokenizer,
                                 const ReadOptions& options);

/// `data.json record 17`: where a document comes from.
std::string document_place(const Documents& documents, std::span<const SourceFile> sources,
                           std::int64_t document);

}  // namespace ftplan::data

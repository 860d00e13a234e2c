#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/data_options.h"
#include "data/documents.h"

/// Rows: what one batch element is made of.
namespace ftplan::data {

/// Rows of tokens in one piece of memory. Documents of a row are isolated: a token attends to its
/// own document only, and the target of position t is the label at t + 1 of the same document.
/// Rows whose documents run together hold one document.
struct RowSet {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;           ///< at their own token, not shifted; kNoLabel: none
  std::vector<std::int64_t> ends;             ///< offset after each row's last token
  std::vector<std::int32_t> document_starts;  ///< in its row, of each document of each row
  std::vector<std::int64_t> document_ends;  ///< offset in document_starts after each row's last one
  std::vector<std::int32_t> targets;        ///< of each row: positions with a target
  std::int32_t pad = 0;                     ///< what fills a batch behind a row, see `PadToken`

  [[nodiscard]] std::int64_t rows() const { return static_cast<std::int64_t>(ends.size()); }
  [[nodiscard]] std::int64_t tokens() const { return static_cast<std::int64_t>(ids.size()); }
  [[nodiscard]] std::int64_t begin(std::int64_t row) const;
  [[nodiscard]] std::int64_t length(std::int64_t row) const;
  [[nodiscard]] std::int64_t documents_in(std::int64_t row) const;
  /// The row's part of `ids` or `labels`.
  [[nodiscard]] std::span<const std::int32_t> part_of(const std::vector<std::int32_t>& values,
                                                      std::int64_t row) const;

  /// Calls `function(begin, end)` for each document, in positions of the row.
  template <class Function>
  void for_each_document(std::int64_t row, const Function& function) const {
    const std::int64_t first = row == 0 ? 0 : document_ends[static_cast<std::size_t>(row) - 1];
    const std::int64_t last = document_ends[static_cast<std::size_t>(row)];
    for (std::int64_t i = first; i < last; ++i) {
      const std::int64_t end =
          i + 1 == last ? length(row) : document_starts[static_cast<std::size_t>(i) + 1];
      function(std::int64_t{document_starts[static_cast<std::size_t>(i)]}, end);
    }
  }

  /// Appends a document to the row that is open.
  void add_document(std::span<const std::int32_t> its_ids,
                    std::span<const std::int32_t> its_labels);
  void close_row();

  friend bool operator==(const RowSet&, const RowSet&) = default;
};

struct PackOptions {
  std::int64_t seq = 2048;  ///< longest row
  Packing packing = Packing::kNone;
  bool keep_unlearned = false;  ///< keeps rows without a target: pre-tokenized rows stand as given
};

struct Packed {
  RowSet rows;
  std::int64_t truncated = 0;         ///< documents that were longer than `seq`
  std::int64_t truncated_tokens = 0;  ///< what they lost
  std::int64_t dropped = 0;  ///< documents (concat: rows) left out, as nothing in them is learned
};

/// Makes rows of the `chosen` documents; their order and the result depend on nothing else.
///
/// none      a row a document
/// isolated  best fit decreasing: the longest document first, each into the fullest row that has
/// room;
///           rows then stand in the order of their first document, documents in file order
/// concat    all documents run together and are cut every `seq` tokens; nothing is truncated
/// @complexity n log n in documents, memory linear in tokens
/// @param before is added to; no row holds documents of both
Packed pack(const Documents& documents, std::span<const std::int64_t> chosen,
            const PackOptions& options, Packed before = {});

/// `length` rounded up to a multiple of `pad_multiple`.
std::int64_t padded(std::int64_t length, std::int64_t pad_multiple);

/// What a plan needs to know of the rows.
DataFacts facts_of(const RowSet& training, const RowSet& validation, std::int64_t pad_multiple);

}  // namespace ftplan::data

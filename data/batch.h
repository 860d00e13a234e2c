#pragma once

#include <cstdint>
#include <span>

#include "data/rows.h"

/// Rows as the arrays that a step program reads.
namespace ftplan::data {

/// Where a micro-batch is written; int32 in row-major order. B rows of T positions each; a span may
/// be empty where a program has no such array.
struct BatchSpans {
  std::span<std::int32_t> ids;        ///< BT; 0 in the padding
  std::span<std::int32_t> targets;    ///< BT; shifted: what position t must predict, or kNoLabel
  std::span<std::int32_t> positions;  ///< BT; from 0 in each document; 0 in the padding
  std::span<std::int32_t>
      document_start;               ///< BT; in the row, of the token's document; itself in padding
  std::span<std::int32_t> row_ids;  ///< B; slot in the global batch, the key of dropout
  std::span<std::int32_t> token_order;  ///< BT; positions of all B rows by ascending id, stable
};

/// Which rows make up a micro-batch of fixed size.
struct BatchShape {
  std::int64_t micro_batch = 1;
  std::int64_t length = 0;      ///< positions in a row
  std::int64_t first_slot = 0;  ///< slot of its first row in the global batch
};

/// Fills `spans` with `chosen`, which may be fewer than `shape.micro_batch`: what is left is
/// padding. Right padding needs no mask under causal attention. Allocates nothing.
/// @return the number of targets
/// @pre no row is longer than `shape.length`; spans are empty or as large as said there
std::int64_t make_batch(const RowSet& rows, std::span<const std::int64_t> chosen,
                        const BatchShape& shape, const BatchSpans& spans);

/// The length to which these rows are padded; `pad_multiple` where there is no row.
std::int64_t padded_length(const RowSet& rows, std::span<const std::int64_t> chosen,
                           std::int64_t pad_multiple);

/// Targets of a whole batch: what its summed loss is divided by. Each rank computes it alone.
std::int64_t target_count(const RowSet& rows, std::span<const std::int64_t> chosen);

}  // namespace ftplan::data

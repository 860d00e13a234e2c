#include "data/batch.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>

#include "core/check.h"
#include "data/documents.h"
#include "data/rows.h"

namespace ftplan::data {
namespace {

using Span = std::span<std::int32_t>;

// Row `index` of a BT array; empty of an empty one.
Span row_of(Span array, std::int64_t index, std::int64_t length) {
  if (array.empty()) return array;
  return array.subspan(static_cast<std::size_t>(index * length), static_cast<std::size_t>(length));
}

void fill_padding(const BatchSpans& row, std::int64_t from, std::int32_t pad) {
  const auto fill = [&](Span array, std::int32_t value) {
    if (!array.empty()) std::ranges::fill(array.subspan(static_cast<std::size_t>(from)), value);
  };
  fill(row.ids, pad);
  fill(row.targets, kNoLabel);
  fill(row.positions, 0);
  for (auto t = static_cast<std::size_t>(from); t < row.document_start.size(); ++t) {
    row.document_start[t] = static_cast<std::int32_t>(t);
  }
}

std::int64_t fill_document(const BatchSpans& row, std::span<const std::int32_t> labels,
                           std::int64_t begin, std::int64_t end) {
  std::int64_t targets = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    const auto t = static_cast<std::size_t>(i);
    const std::int32_t target = i + 1 < end ? labels[t + 1] : kNoLabel;
    targets += target == kNoLabel ? 0 : 1;
    if (!row.targets.empty()) row.targets[t] = target;
    if (!row.positions.empty()) row.positions[t] = static_cast<std::int32_t>(i - begin);
    if (!row.document_start.empty()) row.document_start[t] = static_cast<std::int32_t>(begin);
  }
  return targets;
}

void sort_tokens(Span order, Span ids) {
  std::iota(order.begin(), order.end(), 0);
  // The second key makes it stable without the memory of a stable sort.
  std::ranges::sort(order, [&](std::int32_t a, std::int32_t b) {
    const std::int32_t id_a = ids[static_cast<std::size_t>(a)];
    const std::int32_t id_b = ids[static_cast<std::size_t>(b)];
    return id_a != id_b ? id_a < id_b : a < b;
  });
}

void check_spans(const BatchShape& shape, const BatchSpans& spans) {
  const auto tokens = static_cast<std::size_t>(shape.micro_batch * shape.length);
  for (const Span span :
       {spans.ids, spans.targets, spans.positions, spans.document_start, spans.token_order}) {
    FTPLAN_CHECK(span.empty() || span.size() == tokens);
  }
  FTPLAN_CHECK(spans.row_ids.empty() ||
               spans.row_ids.size() == static_cast<std::size_t>(shape.micro_batch));
  FTPLAN_CHECK(spans.token_order.empty() || !spans.ids.empty());
}

}  // namespace

std::int64_t make_batch(const RowSet& rows, std::span<const std::int64_t> chosen,
                        const BatchShape& shape, const BatchSpans& spans) {
  check_spans(shape, spans);
  const auto present = static_cast<std::int64_t>(chosen.size());
  FTPLAN_CHECK(present <= shape.micro_batch);
  std::int64_t targets = 0;
  for (std::int64_t b = 0; b < shape.micro_batch; ++b) {
    const auto part = [&](Span array) { return row_of(array, b, shape.length); };
    const BatchSpans row{.ids = part(spans.ids),
                         .targets = part(spans.targets),
                         .positions = part(spans.positions),
                         .document_start = part(spans.document_start),
                         .row_ids = {},
                         .token_order = {}};
    std::int64_t length = 0;
    if (b < present) {
      const std::int64_t index = chosen[static_cast<std::size_t>(b)];
      length = rows.length(index);
      FTPLAN_CHECK(length <= shape.length);
      if (!row.ids.empty()) std::ranges::copy(rows.part_of(rows.ids, index), row.ids.begin());
      const auto labels = rows.part_of(rows.labels, index);
      rows.for_each_document(index, [&](std::int64_t begin, std::int64_t end) {
        targets += fill_document(row, labels, begin, end);
      });
    }
    fill_padding(row, length, rows.pad);
  }
  for (std::size_t b = 0; b < spans.row_ids.size(); ++b) {
    spans.row_ids[b] = static_cast<std::int32_t>(shape.first_slot + static_cast<std::int64_t>(b));
  }
  if (!spans.token_order.empty()) sort_tokens(spans.token_order, spans.ids);
  return targets;
}

std::int64_t padded_length(const RowSet& rows, std::span<const std::int64_t> chosen,
                           std::int64_t pad_multiple) {
  std::int64_t longest = 1;
  for (const std::int64_t row : chosen) longest = std::max(longest, rows.length(row));
  return padded(longest, pad_multiple);
}

std::int64_t target_count(const RowSet& rows, std::span<const std::int64_t> chosen) {
  std::int64_t targets = 0;
  for (const std::int64_t row : chosen) targets += rows.targets[static_cast<std::size_t>(row)];
  return targets;
}

}  // namespace ftplan::data

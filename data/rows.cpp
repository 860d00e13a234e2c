#include "data/rows.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/data_options.h"
#include "core/digest.h"
#include "data/documents.h"

namespace ftplan::data {
namespace {

// Labels after the first: those that are the target of the position before them.
std::int64_t count_targets(std::span<const std::int32_t> labels) {
  if (labels.empty()) return 0;
  return std::ranges::count_if(labels.subspan(1), [](std::int32_t l) { return l != kNoLabel; });
}

// A document as much of it as fits.
struct Piece {
  std::int64_t document = 0;
  std::int64_t length = 0;
};

class Packer {
 public:
  Packer(const Documents& documents, const PackOptions& options, Packed before)
      : documents_(documents), options_(options), packed_(std::move(before)) {}

  Packed pack(std::span<const std::int64_t> chosen) {
    reserve(chosen);
    if (options_.packing == Packing::kConcat) {
      concatenate(chosen);
    } else {
      cut(chosen);
      options_.packing == Packing::kIsolated ? fit() : put_alone();
    }
    return std::move(packed_);
  }

 private:
  // Growing by doubling would copy all tokens again and need twice their memory for a moment.
  void reserve(std::span<const std::int64_t> chosen) {
    const bool cuts = options_.packing != Packing::kConcat;
    std::int64_t tokens = packed_.rows.tokens();
    for (const std::int64_t document : chosen) {
      const std::int64_t length = documents_.length(document);
      tokens += cuts ? std::min(length, options_.seq) : length;
    }
    for (auto* values : {&packed_.rows.ids, &packed_.rows.labels}) {
      // Of many files each would copy those before it.
      const std::size_t least = values->empty() ? 0 : 2 * values->capacity();
      const auto wanted = static_cast<std::size_t>(tokens);
      if (wanted > values->capacity()) values->reserve(std::max(wanted, least));
    }
  }

  void cut(std::span<const std::int64_t> chosen) {
    pieces_.reserve(chosen.size());
    for (const std::int64_t document : chosen) {
      const std::int64_t length = documents_.length(document);
      const std::int64_t kept = std::min(length, options_.seq);
      packed_.truncated += kept < length ? 1 : 0;
      packed_.truncated_tokens += length - kept;
      const auto labels = documents_.labels_of(document).first(static_cast<std::size_t>(kept));
      if (kept > 0 && (options_.keep_unlearned || count_targets(labels) > 0)) {
        pieces_.push_back({document, kept});
      } else {
        ++packed_.dropped;
      }
    }
  }

  void add(const Piece& piece) {
    const auto length = static_cast<std::size_t>(piece.length);
    packed_.rows.add_document(documents_.ids_of(piece.document).first(length),
                              documents_.labels_of(piece.document).first(length));
  }

  void put_alone() {
    for (const Piece& piece : pieces_) {
      add(piece);
      packed_.rows.close_row();
    }
  }

  // The row of each piece by best fit decreasing.
  [[nodiscard]] std::vector<std::int64_t> rows_of_pieces() const {
    std::vector<std::int64_t> order(pieces_.size());
    std::iota(order.begin(), order.end(), 0);
    const auto length = [&](std::int64_t i) { return pieces_[static_cast<std::size_t>(i)].length; };
    std::ranges::sort(order, [&](std::int64_t a, std::int64_t b) {
      return length(a) != length(b) ? length(a) > length(b) : a < b;
    });

    std::map<std::int64_t, std::vector<std::int64_t>> rows_with_room;
    std::vector<std::int64_t> row_of(pieces_.size());
    std::int64_t rows = 0;
    for (const std::int64_t piece : order) {
      const auto fullest = rows_with_room.lower_bound(length(piece));
      std::int64_t room = options_.seq;
      std::int64_t row = rows;
      if (fullest == rows_with_room.end()) {
        ++rows;
      } else {
        room = fullest->first;
        row = fullest->second.back();
        fullest->second.pop_back();
        if (fullest->second.empty()) rows_with_room.erase(fullest);
      }
      row_of[static_cast<std::size_t>(piece)] = row;
      if (room > length(piece)) rows_with_room[room - length(piece)].push_back(row);
    }
    return row_of;
  }

  void fit() {
    const std::vector<std::int64_t> row_of = rows_of_pieces();
    // Rows in the order of their first piece, then pieces by row; stable, so in file order.
    std::vector<std::int64_t> number(pieces_.size(), -1);
    std::vector<std::int64_t> ends;
    for (const std::int64_t row : row_of) {
      std::int64_t& its_number = number[static_cast<std::size_t>(row)];
      if (its_number < 0) {
        its_number = static_cast<std::int64_t>(ends.size());
        ends.push_back(0);
      }
      ++ends[static_cast<std::size_t>(its_number)];
    }
    std::partial_sum(ends.begin(), ends.end(), ends.begin());
    std::vector<std::int64_t> sorted(pieces_.size());
    std::vector<std::int64_t> next(ends);
    for (std::size_t i = pieces_.size(); i-- > 0;) {
      const auto row = static_cast<std::size_t>(number[static_cast<std::size_t>(row_of[i])]);
      sorted[static_cast<std::size_t>(--next[row])] = static_cast<std::int64_t>(i);
    }
    std::size_t at = 0;
    for (const std::int64_t end : ends) {
      for (; at < static_cast<std::size_t>(end); ++at) {
        add(pieces_[static_cast<std::size_t>(sorted[at])]);
      }
      packed_.rows.close_row();
    }
  }

  void concatenate(std::span<const std::int64_t> chosen) {
    for (const std::int64_t document : chosen) {
      auto ids = documents_.ids_of(document);
      auto labels = documents_.labels_of(document);
      while (!ids.empty()) {
        const std::size_t room = static_cast<std::size_t>(options_.seq) - ids_.size();
        const std::size_t taken = std::min(room, ids.size());
        ids_.insert(ids_.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(taken));
        labels_.insert(labels_.end(), labels.begin(),
                       labels.begin() + static_cast<std::ptrdiff_t>(taken));
        ids = ids.subspan(taken);
        labels = labels.subspan(taken);
        if (taken == room) flush();
      }
    }
    if (!ids_.empty()) flush();
  }

  void flush() {
    if (options_.keep_unlearned || count_targets(labels_) > 0) {
      packed_.rows.add_document(ids_, labels_);
      packed_.rows.close_row();
    } else {
      ++packed_.dropped;
    }
    ids_.clear();
    labels_.clear();
  }

  const Documents& documents_;
  PackOptions options_;
  std::vector<Piece> pieces_;
  std::vector<std::int32_t> ids_;
  std::vector<std::int32_t> labels_;
  Packed packed_;
};

std::vector<LengthCount> lengths_of(const RowSet& rows, std::int64_t pad_multiple) {
  std::map<std::int64_t, std::int64_t> counts;
  for (std::int64_t row = 0; row < rows.rows(); ++row) {
    ++counts[padded(rows.length(row), pad_multiple)];
  }
  std::vector<LengthCount> lengths;
  lengths.reserve(counts.size());
  for (const auto& [tokens, count] : counts) lengths.push_back({tokens, count});
  return lengths;
}

std::int64_t longest_of(const RowSet& rows) {
  std::int64_t longest = 0;
  for (std::int64_t row = 0; row < rows.rows(); ++row) {
    longest = std::max(longest, rows.length(row));
  }
  return longest;
}

template <class T>
void add_vector(Digester& digester, const std::vector<T>& values) {
  const std::uint64_t size = values.size();
  digester.add({reinterpret_cast<const char*>(&size), sizeof size});
  digester.add({reinterpret_cast<const char*>(values.data()), size * sizeof(T)});
}

}  // namespace

std::int64_t RowSet::begin(std::int64_t row) const {
  return row == 0 ? 0 : ends[static_cast<std::size_t>(row) - 1];
}

std::int64_t RowSet::length(std::int64_t row) const {
  return ends[static_cast<std::size_t>(row)] - begin(row);
}

std::int64_t RowSet::documents_in(std::int64_t row) const {
  const auto at = static_cast<std::size_t>(row);
  return document_ends[at] - (at == 0 ? 0 : document_ends[at - 1]);
}

std::span<const std::int32_t> RowSet::part_of(const std::vector<std::int32_t>& values,
                                              std::int64_t row) const {
  return std::span(values).subspan(static_cast<std::size_t>(begin(row)),
                                   static_cast<std::size_t>(length(row)));
}

void RowSet::add_document(std::span<const std::int32_t> its_ids,
                          std::span<const std::int32_t> its_labels) {
  FTPLAN_CHECK(its_ids.size() == its_labels.size());
  const std::int64_t row_begin = ends.empty() ? 0 : ends.back();
  document_starts.push_back(static_cast<std::int32_t>(tokens() - row_begin));
  ids.insert(ids.end(), its_ids.begin(), its_ids.end());
  labels.insert(labels.end(), its_labels.begin(), its_labels.end());
}

void RowSet::close_row() {
  ends.push_back(tokens());
  document_ends.push_back(static_cast<std::int64_t>(document_starts.size()));
  std::int64_t count = 0;
  const std::int64_t row = rows() - 1;
  const auto in_row = part_of(labels, row);
  for_each_document(row, [&](std::int64_t begin, std::int64_t end) {
    count += count_targets(
        in_row.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
  });
  targets.push_back(static_cast<std::int32_t>(count));
}

Packed pack(const Documents& documents, std::span<const std::int64_t> chosen,
            const PackOptions& options, Packed before) {
  return Packer(documents, options, std::move(before)).pack(chosen);
}

std::int64_t padded(std::int64_t length, std::int64_t pad_multiple) {
  return (length + pad_multiple - 1) / pad_multiple * pad_multiple;
}

DataFacts facts_of(const RowSet& training, const RowSet& validation, std::int64_t pad_multiple) {
  DataFacts facts{.rows = training.rows(),
                  .validation_rows = validation.rows(),
                  .longest = std::max(longest_of(training), longest_of(validation)),
                  .tokens = training.tokens(),
                  .target_tokens = std::accumulate(training.targets.begin(), training.targets.end(),
                                                   std::int64_t{0}),
                  .lengths = lengths_of(training, pad_multiple),
                  .validation_lengths = lengths_of(validation, pad_multiple),
                  .digest = {}};
  Digester digester;
  for (const RowSet* rows : {&training, &validation}) {
    add_vector(digester, rows->ids);
    add_vector(digester, rows->labels);
    add_vector(digester, rows->ends);
    add_vector(digester, rows->document_starts);
    add_vector(digester, rows->document_ends);
  }
  facts.digest = digester.hex();
  return facts;
}

}  // namespace ftplan::data

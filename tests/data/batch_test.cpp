#include "data/batch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "core/data_options.h"
#include "data/documents.h"
#include "data/rows.h"
#include "support.h"

namespace ftplan::data {
namespace {

using Ints = std::vector<std::int32_t>;

// Arrays that start full of a value that no batch has.
struct Arrays {
  explicit Arrays(const BatchShape& shape)
      : ids(tokens(shape), -7),
        targets(tokens(shape), -7),
        positions(tokens(shape), -7),
        document_start(tokens(shape), -7),
        row_ids(static_cast<std::size_t>(shape.micro_batch), -7),
        token_order(tokens(shape), -7) {}
  static std::size_t tokens(const BatchShape& shape) {
    return static_cast<std::size_t>(shape.micro_batch * shape.length);
  }
  BatchSpans spans() { return {ids, targets, positions, document_start, row_ids, token_order}; }

  Ints ids, targets, positions, document_start, row_ids, token_order;
};

TEST(MakeBatch, ByHand) {
  // Row 0: documents of 3 and 2 tokens, isolated; row 1: one of 4. The first token has no label.
  const Documents documents = documents_of_lengths({3, 4, 2}, /*unlearned=*/1);
  const RowSet rows = pack(documents, all(3), {.seq = 5, .packing = Packing::kIsolated}).rows;
  ASSERT_EQ(rows.rows(), 2);
  const BatchShape shape{.micro_batch = 3, .length = 6, .first_slot = 8};
  Arrays arrays(shape);
  EXPECT_EQ(make_batch(rows, std::vector<std::int64_t>{1, 0}, shape, arrays.spans()), 3 + 2 + 1);
  const std::int32_t none = kNoLabel;
  EXPECT_EQ(arrays.ids, (Ints{1000, 1001, 1002, 1003, 0, 0,  //
                              0, 1, 2, 2000, 2001, 0,        //
                              0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(arrays.targets, (Ints{1001, 1002, 1003, none, none, none,  //
                                  1, 2, none, 2001, none, none,        //
                                  none, none, none, none, none, none}));
  EXPECT_EQ(arrays.positions, (Ints{0, 1, 2, 3, 0, 0,  //
                                    0, 1, 2, 0, 1, 0,  //
                                    0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(arrays.document_start, (Ints{0, 0, 0, 0, 4, 5,  //
                                         0, 0, 0, 3, 3, 5,  //
                                         0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(arrays.row_ids, (Ints{8, 9, 10}));
  EXPECT_EQ(arrays.token_order,
            (Ints{4, 5, 6, 11, 12, 13, 14, 15, 16, 17, 7, 8, 0, 1, 2, 3, 9, 10}));
}

// Padding with the id that ends texts takes no end of a text away from what is learned.
TEST(MakeBatch, PadsWithAnIdThatStaysATarget) {
  Documents documents = documents_of_lengths({3});
  constexpr std::int32_t kEnd = 9;
  documents.ids.back() = documents.labels.back() = kEnd;
  RowSet rows = pack(documents, all(1), {.seq = 5}).rows;
  rows.pad = kEnd;
  const BatchShape shape{.micro_batch = 1, .length = 5};
  Arrays arrays(shape);
  EXPECT_EQ(make_batch(rows, all(1), shape, arrays.spans()), 2);
  EXPECT_EQ(arrays.ids, (Ints{0, 1, kEnd, kEnd, kEnd}));
  EXPECT_EQ(arrays.targets, (Ints{1, kEnd, kNoLabel, kNoLabel, kNoLabel}));
  EXPECT_EQ(arrays.document_start, (Ints{0, 0, 0, 3, 4}));
}

TEST(MakeBatch, FillsOnlyWhatIsAskedFor) {
  const RowSet rows = pack(documents_of_lengths({3}), all(1), {.seq = 5}).rows;
  Ints positions(4, -7);
  const BatchSpans spans{.ids = {},
                         .targets = {},
                         .positions = positions,
                         .document_start = {},
                         .row_ids = {},
                         .token_order = {}};
  EXPECT_EQ(make_batch(rows, all(1), {.micro_batch = 1, .length = 4}, spans), 2);
  EXPECT_EQ(positions, (Ints{0, 1, 2, 0}));
}

// Says for each position on its own what must stand there, by looking through the row's documents.
struct Naive {
  std::int32_t id = 0, target = kNoLabel, position = 0, document_start = 0;
};
Naive naive_at(const RowSet& rows, std::int64_t row, std::int64_t t) {
  Naive at;
  at.document_start = static_cast<std::int32_t>(t);
  const auto ids = rows.part_of(rows.ids, row);
  const auto labels = rows.part_of(rows.labels, row);
  if (t >= static_cast<std::int64_t>(ids.size())) return at;
  const std::int64_t first = row == 0 ? 0 : rows.document_ends[static_cast<std::size_t>(row) - 1];
  const std::int64_t last = rows.document_ends[static_cast<std::size_t>(row)];
  const auto begin = rows.document_starts.begin();
  const auto after = std::upper_bound(begin + first, begin + last, static_cast<std::int32_t>(t));
  const bool is_last =
      after != begin + last ? t + 1 == *after : t + 1 == static_cast<std::int64_t>(ids.size());
  at.id = ids[static_cast<std::size_t>(t)];
  at.document_start = *(after - 1);
  at.position = static_cast<std::int32_t>(t) - at.document_start;
  if (!is_last) at.target = labels[static_cast<std::size_t>(t) + 1];
  return at;
}

TEST(MakeBatch, EqualsANaiveReference) {
  std::mt19937 random(3);
  for (const Packing packing : {Packing::kNone, Packing::kIsolated, Packing::kConcat}) {
    std::vector<std::int64_t> lengths(60);
    for (auto& length : lengths) length = 2 + static_cast<std::int64_t>(random() % 30);
    Documents documents = documents_of_lengths(lengths);
    for (auto& label : documents.labels) label = random() % 3 == 0 ? kNoLabel : label;
    for (auto& id : documents.ids) id %= 17;
    const RowSet rows =
        pack(documents, all(60), {.seq = 32, .packing = packing, .keep_unlearned = true}).rows;
    for (int round = 0; round < 50; ++round) {
      const auto micro_batch = static_cast<std::int64_t>(1 + random() % 5);
      std::vector<std::int64_t> chosen(random() % static_cast<unsigned>(micro_batch + 1));
      for (auto& row : chosen) {
        row = static_cast<std::int64_t>(random() % static_cast<unsigned>(rows.rows()));
      }
      const BatchShape shape{
          .micro_batch = micro_batch, .length = padded_length(rows, chosen, 8), .first_slot = 100};
      Arrays arrays(shape);
      const std::int64_t targets = make_batch(rows, chosen, shape, arrays.spans());
      std::int64_t expected_targets = 0;
      for (std::int64_t b = 0; b < micro_batch; ++b) {
        for (std::int64_t t = 0; t < shape.length; ++t) {
          Naive expected;
          expected.document_start = static_cast<std::int32_t>(t);
          if (b < static_cast<std::int64_t>(chosen.size())) {
            expected = naive_at(rows, chosen[static_cast<std::size_t>(b)], t);
          }
          const auto at = static_cast<std::size_t>(b * shape.length + t);
          EXPECT_EQ(arrays.ids[at], expected.id);
          EXPECT_EQ(arrays.targets[at], expected.target);
          EXPECT_EQ(arrays.positions[at], expected.position);
          EXPECT_EQ(arrays.document_start[at], expected.document_start);
          expected_targets += expected.target == kNoLabel ? 0 : 1;
        }
      }
      EXPECT_EQ(targets, expected_targets);
      EXPECT_EQ(target_count(rows, chosen), expected_targets);
      Ints order(arrays.ids.size());
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(
          order, {}, [&](std::int32_t at) { return arrays.ids[static_cast<std::size_t>(at)]; });
      EXPECT_EQ(arrays.token_order, order);
    }
  }
}

// Whatever the split, a slot of the global batch holds the same row and the same dropout key.
TEST(MakeBatch, DoesNotDependOnTheSplit) {
  const RowSet rows = pack(documents_of_lengths({3, 5, 2, 4, 6, 2}), all(6), {.seq = 8}).rows;
  const std::vector<std::int64_t> chosen{4, 1, 5, 0, 2, 3};
  const BatchShape whole_shape{.micro_batch = 6, .length = 8};
  Arrays whole(whole_shape);
  make_batch(rows, chosen, whole_shape, whole.spans());
  for (const std::int64_t micro_batch : {1, 2, 3}) {
    for (std::int64_t slot = 0; slot < 6; slot += micro_batch) {
      const BatchShape shape{.micro_batch = micro_batch, .length = 8, .first_slot = slot};
      Arrays part(shape);
      const auto its_rows = std::span(chosen).subspan(static_cast<std::size_t>(slot),
                                                      static_cast<std::size_t>(micro_batch));
      make_batch(rows, its_rows, shape, part.spans());
      EXPECT_TRUE(
          std::equal(part.targets.begin(), part.targets.end(), whole.targets.begin() + slot * 8));
      EXPECT_TRUE(
          std::equal(part.row_ids.begin(), part.row_ids.end(), whole.row_ids.begin() + slot));
    }
  }
}

TEST(PaddedLength, IsTheLongestRowRoundedUp) {
  const RowSet rows = pack(documents_of_lengths({3, 64, 65}), all(3), {.seq = 100}).rows;
  EXPECT_EQ(padded_length(rows, std::vector<std::int64_t>{0}, 64), 64);
  EXPECT_EQ(padded_length(rows, std::vector<std::int64_t>{1, 0}, 64), 64);
  EXPECT_EQ(padded_length(rows, std::vector<std::int64_t>{0, 2}, 64), 128);
  EXPECT_EQ(padded_length(rows, std::vector<std::int64_t>{2}, 1), 65);
  EXPECT_EQ(padded_length(rows, {}, 64), 64);
}

}  // namespace
}  // namespace ftplan::data

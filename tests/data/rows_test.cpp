#include "data/rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "core/data_options.h"
#include "data/documents.h"
#include "support.h"

namespace ftplan::data {
namespace {

using Ids = std::vector<std::int32_t>;

Ids ids_of(const RowSet& rows, std::int64_t row) {
  const auto part = rows.part_of(rows.ids, row);
  return {part.begin(), part.end()};
}

TEST(Pack, NoneMakesARowOfEachDocument) {
  const Packed packed = pack(documents_of_lengths({3, 2}), all(2), {.seq = 4});
  ASSERT_EQ(packed.rows.rows(), 2);
  EXPECT_EQ(ids_of(packed.rows, 0), (Ids{0, 1, 2}));
  EXPECT_EQ(ids_of(packed.rows, 1), (Ids{1000, 1001}));
  EXPECT_EQ(packed.rows.targets, (std::vector<std::int32_t>{2, 1}));
  EXPECT_EQ(packed.truncated, 0);
}

TEST(Pack, TruncatesAndCounts) {
  const Packed packed = pack(documents_of_lengths({7, 4, 5}), all(3), {.seq = 4});
  EXPECT_EQ(packed.truncated, 2);
  EXPECT_EQ(packed.truncated_tokens, /*7-4=*/3 + /*5-4=*/1);
  EXPECT_EQ(ids_of(packed.rows, 0), (Ids{0, 1, 2, 3}));
}

TEST(Pack, LeavesOutWhatHasNoTarget) {
  // The first three tokens have no label: of a document of three nothing is left, nor of one that
  // is cut to three.
  const Documents documents = documents_of_lengths({3, 4, 9}, /*unlearned=*/3);
  EXPECT_EQ(pack(documents, all(3), {.seq = 4}).dropped, 1);
  const Packed cut = pack(documents, all(3), {.seq = 3});
  EXPECT_EQ(cut.dropped, 3);
  EXPECT_EQ(cut.rows.rows(), 0);
  EXPECT_EQ(pack(documents, all(3), {.seq = 3, .keep_unlearned = true}).rows.rows(), 3);
  // A single token is the target of nothing.
  EXPECT_EQ(pack(documents_of_lengths({1}), all(1), {.seq = 4}).dropped, 1);
}

TEST(Pack, IsolatedPutsTheLongestFirstIntoTheFullestRow) {
  // Of 10: 7 + 3, 6 + 4, 5. Rows stand in the order of documents 0 (4), 1 (7) and 4 (5).
  const Packed packed = pack(documents_of_lengths({4, 7, 6, 3, 5}), all(5),
                             {.seq = 10, .packing = Packing::kIsolated});
  ASSERT_EQ(packed.rows.rows(), 3);
  EXPECT_EQ(ids_of(packed.rows, 0), (Ids{0, 1, 2, 3, 2000, 2001, 2002, 2003, 2004, 2005}));
  EXPECT_EQ(packed.rows.documents_in(0), 2);
  EXPECT_EQ(ids_of(packed.rows, 1).at(7), 3000);
  EXPECT_EQ(ids_of(packed.rows, 2), (Ids{4000, 4001, 4002, 4003, 4004}));
  // The first token of the second document is no target of the first one.
  EXPECT_EQ(packed.rows.targets, (std::vector<std::int32_t>{3 + 5, 6 + 2, 4}));
}

TEST(Pack, IsolatedKeepsEachDocumentOnceAndWhole) {
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::int64_t> lengths(1 + random() % 200);
    for (auto& length : lengths) length = 2 + static_cast<std::int64_t>(random() % 60);
    const Documents documents = documents_of_lengths(lengths);
    constexpr std::int64_t kSeq = 40;
    const auto chosen = all(documents.count());
    const Packed packed = pack(documents, chosen, {.seq = kSeq, .packing = Packing::kIsolated});
    std::set<Ids> seen;
    std::int64_t count = 0;
    for (std::int64_t row = 0; row < packed.rows.rows(); ++row) {
      EXPECT_LE(packed.rows.length(row), kSeq);
      const Ids ids = ids_of(packed.rows, row);
      packed.rows.for_each_document(row, [&](std::int64_t begin, std::int64_t end) {
        seen.insert(Ids(ids.begin() + begin, ids.begin() + end));
        ++count;
      });
    }
    EXPECT_EQ(count, documents.count());
    std::set<Ids> expected;
    std::int64_t kept = 0;
    for (std::int64_t d = 0; d < documents.count(); ++d) {
      const auto ids = documents.ids_of(d);
      const auto size = std::min<std::ptrdiff_t>(kSeq, static_cast<std::ptrdiff_t>(ids.size()));
      expected.insert(Ids(ids.begin(), ids.begin() + size));
      kept += size;
    }
    EXPECT_EQ(seen, expected);
    // Any two rows of a best fit hold more than one row's worth: at most twice the least number,
    // and 1.
    EXPECT_LE(packed.rows.rows(), 2 * kept / kSeq + 1);
  }
}

TEST(Pack, ConcatRunsDocumentsTogetherAndLosesNothing) {
  const Packed packed =
      pack(documents_of_lengths({3, 4, 2}), all(3), {.seq = 4, .packing = Packing::kConcat});
  ASSERT_EQ(packed.rows.rows(), 2);
  EXPECT_EQ(ids_of(packed.rows, 0), (Ids{0, 1, 2, 1000}));
  EXPECT_EQ(ids_of(packed.rows, 1), (Ids{1001, 1002, 1003, 2000}));
  // One document to attention: the target of token 2 is the next document's first token.
  EXPECT_EQ(packed.rows.documents_in(0), 1);
  EXPECT_EQ(packed.rows.targets, (std::vector<std::int32_t>{3, 3}));
  EXPECT_EQ(packed.truncated, 0);
  // What is left is a row of one token, the target of nothing.
  EXPECT_EQ(packed.dropped, 1);
}

TEST(Pack, ConcatKeepsAShorterLastRow) {
  const Packed packed =
      pack(documents_of_lengths({3, 4}), all(2), {.seq = 5, .packing = Packing::kConcat});
  ASSERT_EQ(packed.rows.rows(), 2);
  EXPECT_EQ(ids_of(packed.rows, 1), (Ids{1002, 1003}));
}

TEST(Pack, AMillionShortDocuments) {
  std::mt19937 random(1);
  Documents documents;
  constexpr std::int64_t kDocuments = 1'000'000;
  for (std::int64_t d = 0; d < kDocuments; ++d) {
    const std::size_t length = 2 + random() % 30;
    documents.ids.insert(documents.ids.end(), length, 1);
    documents.labels.insert(documents.labels.end(), length, 1);
    documents.close_document();
  }
  const Packed packed =
      pack(documents, all(kDocuments), {.seq = 512, .packing = Packing::kIsolated});
  EXPECT_EQ(packed.rows.tokens(), static_cast<std::int64_t>(documents.ids.size()));
  // Short documents leave no gaps to speak of.
  EXPECT_LE(packed.rows.rows(), packed.rows.tokens() / 512 + 2);
}

TEST(FactsOf, CountsByHand) {
  const Documents documents = documents_of_lengths({3, 65, 64, 2}, /*unlearned=*/1);
  const RowSet training = pack(documents, std::vector<std::int64_t>{0, 1, 2}, {.seq = 100}).rows;
  const RowSet validation = pack(documents, std::vector<std::int64_t>{3}, {.seq = 100}).rows;
  const DataFacts facts = facts_of(training, validation, 64);
  EXPECT_EQ(facts.rows, 3);
  EXPECT_EQ(facts.validation_rows, 1);
  EXPECT_EQ(facts.longest, 65);
  EXPECT_EQ(facts.tokens, 3 + 65 + 64);
  EXPECT_EQ(facts.target_tokens, 2 + 64 + 63);
  EXPECT_EQ(facts.lengths, (std::vector<LengthCount>{{64, 2}, {128, 1}}));
  EXPECT_EQ(facts.validation_lengths, (std::vector<LengthCount>{{64, 1}}));
}

TEST(FactsOf, TheDigestSeesEveryPart) {
  const RowSet none = pack(documents_of_lengths({3, 3}), all(2), {.seq = 6}).rows;
  const RowSet isolated =
      pack(documents_of_lengths({3, 3}), all(2), {.seq = 6, .packing = Packing::kIsolated}).rows;
  const RowSet concat =
      pack(documents_of_lengths({3, 3}), all(2), {.seq = 6, .packing = Packing::kConcat}).rows;
  const RowSet masked = pack(documents_of_lengths({3, 3}, 1), all(2), {.seq = 6}).rows;
  std::set<std::string> digests;
  for (const RowSet* rows : {&none, &isolated, &concat, &masked}) {
    digests.insert(facts_of(*rows, {}, 64).digest);
    digests.insert(facts_of({}, *rows, 64).digest);
  }
  EXPECT_EQ(digests.size(), 8);
  EXPECT_EQ(facts_of(none, masked, 64).digest, facts_of(none, masked, 8).digest);
}

}  // namespace
}  // namespace ftplan::data

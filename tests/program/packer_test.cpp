#include "program/packer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace ftplan::program {
namespace {

std::int64_t height(const Packing& packing) { return packing.height; }

// Two solid items that live at one time.
Clash solid(const std::vector<PackItem>& items, std::size_t a, std::size_t b) {
  return {a, b, -items[b].size, items[a].size};
}

bool clashes(const Packing& packing, const Clash& clash) {
  const std::int64_t distance = packing.offsets[clash.b] - packing.offsets[clash.a];
  return clash.low < distance && distance < clash.high;
}

TEST(Pack, ItemsThatNeverLiveTogetherShareBytes) {
  const std::vector<PackItem> items = {{64, 1}, {128, 1}};
  const Packing packing = pack(items, {}, height);
  EXPECT_EQ(packing.offsets, (std::vector<std::int64_t>{0, 0}));
  EXPECT_EQ(packing.height, 128);
}

//   192 |  [b    ]        a lives with b, b with c: a and c share
//   128 |  [b    ]
//    64 |[a][  c ]
//     0 +----------> time
TEST(Pack, AChainOfItemsTakesItsWidestInstant) {
  const std::vector<PackItem> items = {{64, 1}, {128, 3}, {64, 2}};
  const Packing packing = pack(items, {solid(items, 0, 1), solid(items, 1, 2)}, height);
  EXPECT_EQ(packing.height, /*b=*/128 + /*a or c=*/64);
  EXPECT_EQ(packing.offsets[0], packing.offsets[2]);
}

// A group of two layers, 100 each; the item lives when only the first is left: it may lie over the
// second.
//   200 |      [layer 1][item]
//   100 |      [layer 0      ]
//     0 +----------> time
TEST(Pack, AnItemLiesInTheHoleOfAGroup) {
  const std::vector<PackItem> items = {{200, 2, /*high=*/true}, {100, 1}};
  const std::vector<Clash> only_with_first = {{0, 1, /*low=*/0 - 100, /*high=*/100}};
  EXPECT_EQ(pack(items, only_with_first, height).height, 200);
}

TEST(Pack, TheCheapestCandidateWins) {
  const std::vector<PackItem> items = {{100, 5, /*high=*/true}, {10, 1}};
  const std::vector<Clash> together = {solid(items, 0, 1)};
  const auto low_second = [](const Packing& packing) { return packing.offsets[1]; };
  const Packing packing = pack(items, together, low_second);
  EXPECT_EQ(packing.offsets, (std::vector<std::int64_t>{10, 0}));
}

TEST(Pack, EndsWithACandidateThatIsGoodEnough) {
  const std::vector<PackItem> items = {{100, 5}, {10, 1}};
  int asked = 0;
  pack(items, {solid(items, 0, 1)}, [&](const Packing& packing) { return ++asked, packing.height; },
       {.enough = 110});
  EXPECT_EQ(asked, 1);
}

class RandomItems : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Seeds, RandomItems, testing::Range(std::uint64_t{0}, std::uint64_t{50}));

// Items live from a begin to an end; what any instant holds is a lower bound.
TEST_P(RandomItems, NeverClashAndStayBetweenTheLowerBoundAndTheSum) {
  std::mt19937_64 engine(GetParam());
  struct Span {
    std::int64_t begin, end;
  };
  constexpr std::int64_t kTimes = 40;
  std::vector<PackItem> items;
  std::vector<Span> spans;
  std::vector<std::int64_t> load(kTimes, 0);
  std::int64_t sum = 0;
  for (int i = 0; i < 60; ++i) {
    const auto begin = static_cast<std::int64_t>(engine() % kTimes);
    const auto end =
        std::min<std::int64_t>(kTimes - 1, begin + static_cast<std::int64_t>(engine() % 12));
    items.push_back({64 * static_cast<std::int64_t>(1 + engine() % 30), end - begin + 1});
    spans.push_back({begin, end});
    for (std::int64_t t = begin; t <= end; ++t)
      load[static_cast<std::size_t>(t)] += items.back().size;
    sum += items.back().size;
  }
  std::vector<Clash> all;
  for (std::size_t a = 0; a < items.size(); ++a) {
    for (std::size_t b = a + 1; b < items.size(); ++b) {
      if (spans[a].begin <= spans[b].end && spans[b].begin <= spans[a].end)
        all.push_back(solid(items, a, b));
    }
  }
  const Packing packing = pack(items, all, height);
  for (const Clash& clash : all) EXPECT_FALSE(clashes(packing, clash));
  const std::int64_t bound = *std::max_element(load.begin(), load.end());
  EXPECT_GE(packing.height, bound);
  EXPECT_LE(packing.height, std::min(sum, bound * 3 / 2));
}

}  // namespace
}  // namespace ftplan::program

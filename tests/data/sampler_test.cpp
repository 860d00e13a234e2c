#include "data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "data/permutation.h"
#include "support.h"

namespace ftplan::data {
namespace {

using Order = Sampler::Order;
using Rows = std::vector<std::int64_t>;

Rows order_of(const Permutation& permutation, std::int64_t size) {
  Rows order;
  for (std::int64_t place = 0; place < size; ++place) order.push_back(permutation(place));
  return order;
}

TEST(Permutation, IsOneAtEverySize) {
  for (std::int64_t size = 1; size <= 300; ++size) {
    Rows order = order_of(Permutation(size, 42), size);
    std::ranges::sort(order);
    EXPECT_EQ(order, all(size));
  }
}

TEST(Permutation, WorksAtTheLargestSize) {
  const std::int64_t size = std::int64_t{1} << 62U;
  const Permutation permutation(size, 1);
  for (const std::int64_t place : {std::int64_t{0}, size / 3, size - 1}) {
    EXPECT_GE(permutation(place), 0);
    EXPECT_LT(permutation(place), size);
  }
}

TEST(Permutation, AllOrdersOfFourAreAboutEquallyLikely) {
  std::map<Rows, int> seen;
  constexpr int kKeys = 24 * 1000;
  for (std::uint64_t key = 0; key < kKeys; ++key) ++seen[order_of(Permutation(4, key), 4)];
  EXPECT_EQ(seen.size(), 24);
  // Six deviations of a binomial count of mean 1000: sqrt(1000 * 23 / 24) = 31.
  for (const auto& [order, count] : seen) EXPECT_NEAR(count, 1000, 6 * 31);
}

TEST(Permutation, EveryNumberReachesEveryPlace) {
  constexpr std::int64_t kSize = 13;
  constexpr int kKeys = 13 * 400;
  std::map<std::pair<std::int64_t, std::int64_t>, int> seen;
  for (std::uint64_t key = 0; key < kKeys; ++key) {
    const Permutation permutation(kSize, key);
    for (std::int64_t place = 0; place < kSize; ++place) ++seen[{place, permutation(place)}];
  }
  EXPECT_EQ(seen.size(), kSize * kSize);
  // sqrt(400 * 12 / 13) = 19.
  for (const auto& [pair, count] : seen) EXPECT_NEAR(count, 400, 6 * 19);
}

// Changing it would change what a resumed run learns from.
TEST(Permutation, StaysWhatItIs) {
  EXPECT_EQ(order_of(Permutation(10, 0), 10), (Rows{8, 9, 1, 4, 0, 3, 6, 7, 5, 2}));
}

TEST(Sampler, AnEpochIsEachRowOnce) {
  for (const auto& [rows, batch] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {10, 4}, {8, 4}, {1, 4}, {7, 1}, {100, 16}, {5, 5}}) {
    for (const Order order : {Order::kShuffled, Order::kAsInFile}) {
      const Sampler sampler(rows, batch, 3, order);
      EXPECT_EQ(sampler.steps_per_epoch(), (rows + batch - 1) / batch);
      for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
        Rows seen;
        for (std::int64_t i = 0; i < sampler.steps_per_epoch(); ++i) {
          const Rows step = sampler.rows_of_step(epoch * sampler.steps_per_epoch() + i);
          const bool is_last = i + 1 == sampler.steps_per_epoch();
          EXPECT_EQ(static_cast<std::int64_t>(step.size()),
                    is_last ? rows - (sampler.steps_per_epoch() - 1) * batch : batch);
          seen.insert(seen.end(), step.begin(), step.end());
        }
        if (order == Order::kShuffled) std::ranges::sort(seen);
        EXPECT_EQ(seen, all(rows));
      }
    }
  }
}

TEST(Sampler, EpochsAndSeedsHaveOrdersOfTheirOwn) {
  const Sampler sampler(1000, 1000, 1, Order::kShuffled);
  EXPECT_EQ(sampler.rows_of_step(0), Sampler(1000, 1000, 1, Order::kShuffled).rows_of_step(0));
  EXPECT_NE(sampler.rows_of_step(0), sampler.rows_of_step(1));
  EXPECT_NE(sampler.rows_of_step(0), Sampler(1000, 1000, 2, Order::kShuffled).rows_of_step(0));
  EXPECT_NE(sampler.rows_of_step(0), all(1000));
}

// The order of an epoch is one sequence, which the global batch only cuts.
TEST(Sampler, TheGlobalBatchCutsTheSameOrder) {
  const Sampler large(96, 32, 5, Order::kShuffled);
  const Sampler small(96, 8, 5, Order::kShuffled);
  Rows joined;
  for (std::int64_t step = 0; step < 4; ++step) {
    for (const std::int64_t row : small.rows_of_step(step)) joined.push_back(row);
  }
  EXPECT_EQ(large.rows_of_step(0), joined);
}

// How often each row comes in the given epochs.
std::map<std::int64_t, int> counts_of(const Sampler& sampler, std::int64_t epochs) {
  std::map<std::int64_t, int> counts;
  for (std::int64_t step = 0; step < epochs * sampler.steps_per_epoch(); ++step) {
    for (const std::int64_t row : sampler.rows_of_step(step)) ++counts[row];
  }
  return counts;
}

TEST(WeightedSampler, DrawsAsOftenAsTheWeightSays) {
  EXPECT_EQ(drawn_rows(10, 2).draws, 20);
  EXPECT_EQ(drawn_rows(10, 0.25).draws, /*llround(2.5)=*/3);
  EXPECT_EQ(drawn_rows(10, 0.001).draws, 1);
  EXPECT_EQ(drawn_rows(0, 2).draws, 0);
  // 6 rows twice and 9 rows a third of the time: 12 + 3 draws, 4 steps of at most 4.
  const Sampler sampler({drawn_rows(6, 2), drawn_rows(9, 1.0 / 3)}, 4, 7, Order::kShuffled);
  EXPECT_EQ(sampler.steps_per_epoch(), 4);
  const auto once = counts_of(sampler, 1);
  std::int64_t second = 0;
  for (const auto& [row, count] : once) {
    EXPECT_EQ(count, row < 6 ? 2 : 1) << row;
    second += row < 6 ? 0 : count;
  }
  EXPECT_EQ(second, 3);
  // Three epochs go over the second part once, whatever the order.
  for (const auto& [row, count] : counts_of(sampler, 3)) EXPECT_EQ(count, row < 6 ? 6 : 1) << row;
}

TEST(WeightedSampler, EveryRowComesEquallyOftenOverTime) {
  for (const auto order : {Order::kShuffled, Order::kAsInFile}) {
    const Sampler sampler({drawn_rows(7, 1.6), drawn_rows(0, 3), drawn_rows(5, 0.5)}, 3, 1, order);
    // 11 draws of 7 rows, 3 (of 2.5) of 5: after 35 epochs 55 and 21 times each.
    for (const auto& [row, count] : counts_of(sampler, 35)) {
      EXPECT_EQ(count, row < 7 ? 35 * 11 / 7 : 35 * 3 / 5) << row;
    }
  }
}

TEST(WeightedSampler, WithEqualWeightsOfOneIsTheSamplerWithout) {
  for (const auto order : {Order::kShuffled, Order::kAsInFile}) {
    const Sampler plain(17, 4, 3, order);
    const Sampler parts({drawn_rows(12, 1), drawn_rows(5, 1)}, 4, 3, order);
    ASSERT_EQ(parts.steps_per_epoch(), plain.steps_per_epoch());
    for (std::int64_t step = 0; step < 12; ++step) {
      EXPECT_EQ(parts.rows_of_step(step), plain.rows_of_step(step)) << step;
    }
  }
}

TEST(WeightedSampler, IsAFunctionOfSeedAndStep) {
  const auto make = [](std::uint64_t seed) {
    return Sampler({drawn_rows(40, 0.3), drawn_rows(30, 1.7)}, 8, seed, Order::kShuffled);
  };
  const Sampler first = make(5);
  const Sampler second = make(5);
  const Sampler other = make(6);
  bool differs = false;
  for (std::int64_t step = 40; step-- > 0;) {
    EXPECT_EQ(first.rows_of_step(step), second.rows_of_step(step));
    differs = differs || first.rows_of_step(step) != other.rows_of_step(step);
  }
  EXPECT_TRUE(differs);
}

}  // namespace
}  // namespace ftplan::data

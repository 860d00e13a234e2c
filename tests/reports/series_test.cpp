#include "reports/series.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <utility>
#include <vector>

#include "support.h"

namespace ftplan::reports {
namespace {

TEST(Thin, KeepsAllWhenTheyAreFew) {
  EXPECT_EQ(thin(4, 2, 1, [](std::size_t) { return 0.0; }), (std::vector<std::size_t>{0, 1, 2, 3}));
}

TEST(Thin, KeepsEndsPeakAndTheExtremesOfEachBucket) {
  // Two buckets of five:                    low 0.  high 3    low 7  high 9
  const std::vector<double> values = {1, 2, 2, 9, 3, 4, 5, 0, 6, 7};
  const auto kept = thin(values.size(), 2, 3, [&](std::size_t i) { return values[i]; });
  EXPECT_EQ(kept, (std::vector<std::size_t>{0, 3, 7, 9}));
}

TEST(Thin, LosesNoBucketMaximumOfRandomTimelines) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    std::vector<double> values(1000 + random() % 5000);
    for (double& value : values) value = static_cast<double>(random() % 1000);
    const std::size_t peak =
        static_cast<std::size_t>(std::max_element(values.begin(), values.end()) - values.begin());
    constexpr std::size_t kBuckets = 100;
    const auto kept = thin(values.size(), kBuckets, peak, [&](std::size_t i) { return values[i]; });
    EXPECT_LE(kept.size(), 2 * kBuckets + 3) << "seed " << seed;
    EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end())) << "seed " << seed;
    EXPECT_TRUE(std::binary_search(kept.begin(), kept.end(), peak)) << "seed " << seed;
    for (std::size_t bucket = 0; bucket < kBuckets; ++bucket) {
      const std::size_t begin = bucket * values.size() / kBuckets,
                        end = (bucket + 1) * values.size() / kBuckets;
      double largest = 0, largest_kept = 0;
      for (std::size_t i = begin; i < end; ++i) largest = std::max(largest, values[i]);
      for (const std::size_t i : kept) {
        if (i >= begin && i < end) largest_kept = std::max(largest_kept, values[i]);
      }
      EXPECT_EQ(largest_kept, largest) << "seed " << seed << ", bucket " << bucket;
    }
  }
}

TEST(BeginOf, IsThePlaceOfEachWhenNoneIsLeftOut) {
  EXPECT_EQ(begin_of({0, 1, 2, 3}, 4, 2), (std::vector<double>{0, 0.25, 0.5, 0.75}));
}

TEST(BeginOf, SharesABucketEvenlyWhenSomeAreLeftOut) {
  // Ten values in two buckets of five: three kept in the first, one in the second.
  EXPECT_EQ(begin_of({0, 3, 4, 9}, 10, 2), (std::vector<double>{0, 0.5 / 3, 1.0 / 3, 0.5}));
}

TEST(PeakOf, BelievesTheTimelineAndFindsItWhereItSaysNothing) {
  Timeline timeline = toy_timeline(40);
  EXPECT_EQ(peak_of(timeline), 40U * 2 / 5);
  timeline.peak = 40;
  EXPECT_EQ(peak_of(timeline), 40U * 2 / 5);
}

TEST(Held, IsCategoriesAndRuntimeWithoutUnused) {
  Instant instant;
  instant.device = {
      .weights = {100}, .scratch = {20}, .runtime = {3}, .unused = {50}, .peak = {173}};
  EXPECT_EQ(held(instant), Bytes{100 + 20 + 3});
}

TEST(ByteTicks, ReachTheLargestInOneUnit) {
  const auto ticks = byte_ticks(103 * kMiB);
  ASSERT_EQ(ticks.size(), 7U);  // 0 to 120 by 20
  EXPECT_EQ(ticks.front().label, "0");
  EXPECT_EQ(ticks.back().label, "120 MiB");
  EXPECT_EQ(ticks.back().value, 120.0 * 1024 * 1024);
}

TEST(ByteTicks, AreThereForNothingToo) { EXPECT_GE(byte_ticks({}).back().value, 1.0); }

TEST(NumberTicks, EncloseTheValues) {
  for (const auto& [low, high] :
       {std::pair{0.9, 4.0}, {2.0, 2.0}, {1e-5, 3e-5}, {-3.0, 1500.0}, {0.0, 0.0}}) {
    const auto ticks = number_ticks(low, high);
    EXPECT_LE(ticks.front().value, low + 1e-9);
    EXPECT_GE(ticks.back().value, high - 1e-9);
    EXPECT_GE(ticks.size(), 3U);
    EXPECT_LE(ticks.size(), 8U);
  }
}

}  // namespace
}  // namespace ftplan::reports

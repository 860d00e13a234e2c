#include "reports/comparison.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "support.h"

namespace ftplan::reports {
namespace {

TEST(Compare, LeavesOutLinesAndPlacesThatAreZeroOnBothSides) {
  const auto places = compare(toy_report());
  ASSERT_EQ(places.size(), 2U);
  EXPECT_STREQ(places[0].place, "device");
  EXPECT_STREQ(places[1].place, "host");
  EXPECT_EQ(places[0].lines.size(), 7U);  // five categories, unused, peak
  EXPECT_STREQ(places[1].lines.back().name, "peak");
}

TEST(Compare, LinesOfAPlaceAddUpToItsPeak) {
  for (const ComparedPlace& place : compare(toy_report())) {
    Bytes predicted, measured;
    for (const ComparedLine& line : place.lines) {
      if (&line == &place.lines.back()) continue;
      predicted += line.predicted;
      measured += *line.measured;
    }
    EXPECT_EQ(predicted, place.lines.back().predicted) << place.place;
    EXPECT_EQ(measured, *place.lines.back().measured) << place.place;
  }
}

TEST(Compare, CoversEveryLineOfABytesTable) {
  PlaceBytes bytes;
  std::int64_t sum = 0;
  for (const ByteLine& line : kByteLines) bytes.*line.bytes = {sum += 3};
  std::size_t count = 0;
  for_each_field<PlaceBytes>([&](const auto& field) {
    EXPECT_STREQ(field.name, kByteLines.at(count).name);
    EXPECT_EQ(bytes.*(field.member), bytes.*(kByteLines.at(count).bytes));
    ++count;
  });
  EXPECT_EQ(count, kByteLines.size());
}

TEST(Compare, OneByteMakesALineDifferent) {
  ReportInput input = toy_report();
  input.result->ranks[0].measured.device.scratch += Bytes{1};
  EXPECT_EQ(judge(toy_report()).different, 0);
  EXPECT_EQ(judge(input).different, 1);
  EXPECT_EQ(judge(input).compared, /*device*/ 7 + /*host*/ 2);
}

TEST(Compare, AMeasuredLineThatWasNotPredictedIsShown) {
  ReportInput input = toy_report();
  input.result->ranks[0].measured.disk = {.optimizer = {7}, .peak = {7}};
  const auto places = compare(input);
  ASSERT_EQ(places.size(), 3U);
  EXPECT_STREQ(places[2].place, "disk");
  EXPECT_TRUE(places[2].lines[0].different());
}

TEST(Compare, ARankThatEqualsAPredictedOneBringsItsOwnPrediction) {
  ReportInput input = toy_report();
  input.result->ranks.push_back(input.result->ranks[0]);
  input.result->ranks[1].rank = 1;
  EXPECT_EQ(judge(input).compared, 2 * 9);
  EXPECT_EQ(judge(input).different, 0);
}

TEST(Judge, NoticesARunOfAnotherPlan) {
  ReportInput input = toy_report();
  EXPECT_FALSE(judge(input).other_plan);
  input.result->ranks[0].predicted.device.weights += Bytes{1};
  EXPECT_TRUE(judge(input).other_plan);
}

TEST(Judge, APlanAloneHasNothingToCompare) {
  ReportInput input = toy_report();
  input.result.reset();
  EXPECT_EQ(judge(input).compared, 0);
}

}  // namespace
}  // namespace ftplan::reports

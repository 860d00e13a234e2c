#include "models/int8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace ftplan::models {
namespace {

TEST(Int8, ARowsLargestMagnitudeIs127) {
  const std::vector<float> row = {0.5F, -2.0F, 1.0F, 0.0F};
  std::vector<std::int8_t> codes(row.size());
  EXPECT_EQ(int8_absmax(row), 2.0F);
  quantize_int8(row, 2.0F, codes);
  // 0.5 * 127 / 2 = 31.75, and 63.5 goes to the even neighbour
  EXPECT_EQ(codes, (std::vector<std::int8_t>{32, -127, 64, 0}));
  std::vector<float> values(row.size());
  dequantize_int8(codes, 2.0F, values);
  EXPECT_EQ(values[1], -127.0F * 2.0F * kInt8Step);
}

TEST(Int8, ValuesAreRoundedToFp16First) {
  // 1 + 2^-11 lies between 1 and 1 + 2^-10: the even one is 1.
  EXPECT_EQ(int8_absmax(std::vector<float>{1.0F + 0x1p-11F}), 1.0F);
  EXPECT_TRUE(std::isinf(int8_absmax(std::vector<float>{70000.0F})));
}

TEST(Int8, ARowOfZerosStaysZero) {
  const std::vector<float> row(5, 0.0F);
  std::vector<std::int8_t> codes(row.size(), 1);
  quantize_int8(row, int8_absmax(row), codes);
  EXPECT_EQ(codes, std::vector<std::int8_t>(5, 0));
}

TEST(Int8, AValueThatIsNotANumberIsSeen) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(int8_absmax(std::vector<float>{1.0F, nan, 2.0F})));
}

}  // namespace
}  // namespace ftplan::models

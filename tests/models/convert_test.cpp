#include "models/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/dtype.h"

namespace ftplan::models {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(Bf16, RoundsToNearestEven) {
  EXPECT_EQ(f32_to_bf16(1.0F), 0x3F80);
  // one step above 1 is 1/128: halfway goes to the even neighbour
  EXPECT_EQ(f32_to_bf16(1.0F + 1.0F / 256), 0x3F80);
  EXPECT_EQ(f32_to_bf16(1.0F + 3.0F / 256), 0x3F82);
  EXPECT_EQ(f32_to_bf16(std::nextafter(1.0F + 1.0F / 256, 2.0F)), 0x3F81);
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_EQ(f32_to_bf16(-kInfinity), 0xFF80);
  // A NaN whose payload is in the low bits alone must not become infinity.
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x7F800001U)), 0x7FC0);
}

TEST(Bf16, EveryValueSurvivesTheWayThroughF32) {
  for (std::uint32_t i = 0; i < 0x10000; ++i) {
    const auto half = static_cast<std::uint16_t>(i);
    const float value = bf16_to_f32(half);
    if (std::isnan(value)) continue;
    ASSERT_EQ(f32_to_bf16(value), half);
  }
}

TEST(F16, EveryValueSurvivesTheWayThroughF32) {
  for (std::uint32_t i = 0; i < 0x10000; ++i) {
    const auto half = static_cast<std::uint16_t>(i);
    const float value = f16_to_f32(half);
    if (std::isnan(value)) {
      ASSERT_EQ(i & 0x7C00U, 0x7C00U);
    } else {
      ASSERT_EQ(f32_to_f16(value), half);
    }
  }
}

TEST(F16, HasTheValuesOfIeee754) {
  EXPECT_EQ(f16_to_f32(0x3C00), 1.0F);
  EXPECT_EQ(f16_to_f32(0x7BFF), 65504.0F);
  EXPECT_EQ(f16_to_f32(0x0001), std::ldexp(1.0F, -24));
  EXPECT_EQ(f16_to_f32(0x0400), std::ldexp(1.0F, -14));
  EXPECT_EQ(f16_to_f32(0xFC00), -kInfinity);
}

// Between each two neighbours: below the middle down, above it up, the middle to the even one.
TEST(F16, RoundsToNearestEvenEverywhere) {
  for (std::uint32_t i = 0; i < 0x7BFF; ++i) {
    const auto low = static_cast<std::uint16_t>(i);
    const auto high = static_cast<std::uint16_t>(i + 1);
    const float middle = (f16_to_f32(low) + f16_to_f32(high)) / 2;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 0.0F)), low);
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, kInfinity)), high);
    ASSERT_EQ(f32_to_f16(middle), i % 2 == 0 ? low : high);
  }
  EXPECT_EQ(f32_to_f16(std::nextafter(65520.0F, 0.0F)), 0x7BFF);
  EXPECT_EQ(f32_to_f16(65520.0F), 0x7C00);
  EXPECT_EQ(f32_to_f16(-1e30F), 0xFC00);
}

TEST(Convert, ReadsBytesThatAreNotAligned) {
  const std::vector<float> values = {1.0F, -2.5F, 0.0F, 1024.0F};
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
    std::vector<std::byte> bytes(1 + 4 * static_cast<std::size_t>(size_of(dtype).value));
    const auto odd = std::span(bytes).subspan(1);
    from_f32(values, dtype, odd);
    std::vector<float> back(4);
    to_f32(odd, dtype, back);
    EXPECT_EQ(back, values);
  }
}

}  // namespace
}  // namespace ftplan::models

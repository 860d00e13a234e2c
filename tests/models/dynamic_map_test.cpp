#include "models/dynamic_map.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

// What bitsandbytes 0.50.0 computed on a CPU; `dynamic_map_peer.py` compares with the package
// itself.

namespace ftplan::models {
namespace {

std::uint32_t digest_of(const DynamicMap& map) {
  std::uint32_t digest = 2166136261U;  // FNV-1a over the bytes
  for (const std::byte byte : std::as_bytes(std::span(map.values)))
    digest = (digest ^ static_cast<std::uint32_t>(byte)) * 16777619U;
  return digest;
}

TEST(DynamicMap, TheSignedMapHasItsKnownBits) {
  const auto& map = signed_dynamic_map().values;
  EXPECT_EQ(map[0], -0.992968738F);
  EXPECT_EQ(map[126], -5.50000038e-07F);
  EXPECT_EQ(map[127], 0.0F);
  EXPECT_EQ(map[129], 3.25000019e-06F);
  EXPECT_EQ(map[255], 1.0F);
  EXPECT_EQ(digest_of(signed_dynamic_map()), 0x6b337d44U);
}

TEST(DynamicMap, TheUnsignedMapHasItsKnownBits) {
  const auto& map = unsigned_dynamic_map().values;
  EXPECT_EQ(map[0], 0.0F);
  EXPECT_EQ(map[1], 3.2500003e-07F);
  EXPECT_EQ(map[127], 0.103515625F);
  EXPECT_EQ(map[254], 0.996484399F);
  EXPECT_EQ(digest_of(unsigned_dynamic_map()), 0xeb71ed1eU);
}

TEST(DynamicMap, ABlockComesBackWithinHalfAStepOfTheMap) {
  std::vector<float> values(kDynamicBlock);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = 0.25F * static_cast<float>(std::sin(static_cast<double>(i)));
  std::vector<std::uint8_t> codes(values.size());
  std::vector<float> again(values.size());
  const float absmax = quantize_block(values, signed_dynamic_map(), codes);
  dequantize_block(codes, absmax, signed_dynamic_map(), again);
  EXPECT_NEAR(absmax, 0.25, 1e-4);
  // The largest step of the map is 0.9 / 64, that of the last power.
  for (std::size_t i = 0; i < values.size(); ++i)
    EXPECT_NEAR(again[i], values[i], 0.25 * 0.5 * (0.9 / 64 + 2.0 / 65535)) << i;
}

TEST(DynamicMap, ABlockOfZerosStaysZero) {
  const std::vector<float> zeros(10, 0.0F);
  std::vector<std::uint8_t> codes(zeros.size(), 9);
  std::vector<float> again(zeros.size(), 1);
  EXPECT_EQ(quantize_block(zeros, unsigned_dynamic_map(), codes), 0.0F);
  dequantize_block(codes, 0, unsigned_dynamic_map(), again);
  EXPECT_EQ(codes, std::vector<std::uint8_t>(zeros.size(), 0));
  EXPECT_EQ(again, zeros);
}

TEST(DynamicMap, ZeroBesideLargeValuesSharesTheCodeOfTheNearestPointOfTheGrid) {
  const std::vector<float> values = {0, 1};
  std::vector<std::uint8_t> codes(values.size());
  EXPECT_EQ(quantize_block(values, unsigned_dynamic_map(), codes), 1.0F);
  // The point 1 / 65535 = 1.526e-5 is nearest to 1.5625e-5, the eighth value.
  EXPECT_EQ(codes, (std::vector<std::uint8_t>{7, 255}));
}

TEST(DynamicMap, ScalesWithoutAnInverseGiveTheFirstCode) {
  // 1 / 1e-40 is infinite in f32, and infinity times 0 is no number.
  const std::vector<float> values = {0, 1e-40F};
  std::vector<std::uint8_t> codes(values.size());
  EXPECT_EQ(quantize_block(values, unsigned_dynamic_map(), codes), 1e-40F);
  EXPECT_EQ(codes, (std::vector<std::uint8_t>{0, 255}));
}

}  // namespace
}  // namespace ftplan::models

#include "models/nf4.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

// What bitsandbytes 0.50.0 computed on a CPU; `nf4_peer.py` compares with the package itself.

namespace ftplan::models {
namespace {

struct Quantized {
  explicit Quantized(const std::vector<float>& values)
      : counts(nf4_counts(static_cast<std::int64_t>(values.size()))),
        packed(static_cast<std::size_t>(counts.packed)),
        absmax(static_cast<std::size_t>(counts.blocks)),
        codes(absmax.size()),
        nested(static_cast<std::size_t>(counts.nested)) {
    quantize_nf4(values, packed, absmax);
    offset = mean_of(absmax);
    quantize_absmax(absmax, offset, codes, nested);
  }

  [[nodiscard]] std::vector<float> values(bool double_quantization, std::size_t count) const {
    std::vector<float> scales = absmax;
    if (double_quantization) dequantize_absmax(codes, nested, offset, scales);
    std::vector<float> values(count);
    dequantize_nf4(packed, scales, values);
    return values;
  }

  Nf4Counts counts;
  std::vector<std::uint8_t> packed;
  std::vector<float> absmax;
  std::vector<std::uint8_t> codes;
  std::vector<float> nested;
  float offset = 0;
};

std::vector<float> sines(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = static_cast<float>(std::sin(static_cast<double>(i)));
  return values;
}

TEST(Nf4, SinesBecomeTheBytesOfBitsandbytes) {
  const Quantized q(sines(256));
  const std::vector<std::uint8_t> begin(q.packed.begin(), q.packed.begin() + 8);
  EXPECT_EQ(begin, (std::vector<std::uint8_t>{126, 249, 16, 78, 252, 32, 44, 254}));
  EXPECT_EQ(q.absmax,
            (std::vector<float>{0.9999902248F, 0.9995201826F, 0.9983453751F, 0.9988166690F}));
  const auto values = q.values(false, 4);
  EXPECT_EQ(values, (std::vector<float>{0, 0.7229497433F, 0.9999902248F, 0.1609286219F}));
}

TEST(Nf4, SinesWithDoubleQuantizationToo) {
  const Quantized q(sines(256));
  EXPECT_EQ(q.codes, (std::vector<std::uint8_t>{255, 214, 0, 40}));
  EXPECT_EQ(q.nested, (std::vector<float>{0.0008227229118F}));
  EXPECT_EQ(q.offset, 0.9991680979729F);
  const auto values = q.values(true, 4);
  EXPECT_EQ(values, (std::vector<float>{0, 0.7229502201F, 0.9999908209F, 0.1609287262F}));
}

TEST(Nf4, AMillionParametersCostHalfAByteAndTheirScales) {
  const Nf4Counts counts = nf4_counts(1 << 20);
  EXPECT_EQ(counts.packed, /*4 bits=*/(1 << 20) / 2);
  EXPECT_EQ(counts.blocks, (1 << 20) / 64);
  EXPECT_EQ(counts.nested, (1 << 20) / (64 * 256));
  const auto bytes = static_cast<double>(counts.packed + /*u8=*/counts.blocks +
                                         /*f32=*/4 * counts.nested);
  EXPECT_NEAR(bytes / (1 << 20), 0.515869, 5e-7);
}

TEST(Nf4, ThePaddingOfAnOddCountIsTheCodeOfZero) {
  const Quantized q(sines(65));
  EXPECT_EQ(q.counts.packed, 33);
  EXPECT_EQ(q.packed.back(), /*sin(64) > 0 alone in its block: code 15=*/15 << 4 | /*zero=*/7);
}

TEST(Nf4, ABlockOfZerosStaysZero) {
  const Quantized q(std::vector<float>(130, 0.0F));
  EXPECT_EQ(q.absmax[0], 0.0F);
  EXPECT_EQ(q.absmax[2], /*not full, so it divides=*/1e-38F);
  for (const float value : q.values(false, 130)) EXPECT_EQ(value, 0.0F);
}

TEST(Nf4, WhatIsNotFiniteShowsInItsScale) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> values = sines(128);
    values[70] = bad;
    std::vector<std::uint8_t> packed(64);
    std::vector<float> absmax(2);
    quantize_nf4(values, packed, absmax);
    EXPECT_TRUE(std::isfinite(absmax[0]));
    EXPECT_FALSE(std::isfinite(absmax[1]));
  }
}

TEST(Nf4, AMeanIsCloseToTheExactOneForEveryCount) {
  for (const std::size_t count : {1U, 7U, 8U, 31U, 33U, 500U, 4097U, 100'000U}) {
    const std::vector<float> values = sines(count);
    const double exact = std::accumulate(values.begin(), values.end(), 0.0);
    EXPECT_NEAR(mean_of(values), exact / static_cast<double>(count), 1e-6) << count;
  }
}

}  // namespace
}  // namespace ftplan::models

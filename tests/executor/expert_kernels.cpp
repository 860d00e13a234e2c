#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "program/op.h"
#include "tests/executor/kernel_case.h"

// Routing, and products of rows that are sorted by expert.

namespace ftplan::executor {
namespace {

using program::Op;

constexpr std::size_t kTokens = 6;
constexpr std::size_t kExperts = 4;
constexpr std::size_t kPerToken = 2;
constexpr std::size_t kSent = kTokens * kPerToken;
constexpr std::size_t kIn = 5;
constexpr std::size_t kOut = 3;

// Nobody is sent to expert 2.
constexpr std::array<std::array<int, kPerToken>, kTokens> kChosen = {
    {{3, 1}, {0, 1}, {1, 3}, {0, 3}, {3, 0}, {1, 0}}};
// Experts 0 and 1 have four rows each, in the order of tokens, then none of 2 and four of 3.
const Values kRows = {8, 4, 0, 5, 6, 9, 1, 10, 11, 2, 7, 3};
const Values kEnds = {4, 8, 8, 12};

Shape shape_of(std::size_t rows, std::size_t columns) {
  return {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns)};
}

// The expert of each row.
std::size_t expert_of(std::size_t row) {
  std::size_t expert = 0;
  while (static_cast<double>(row) >= kEnds[expert]) ++expert;
  return expert;
}

void append(Values& all, const Values& more) { all.insert(all.end(), more.begin(), more.end()); }

}  // namespace

Values check_route(const std::string& isa, DType dtype) {
  KernelCase c(Op::kRoute, isa);
  Values logits(kTokens * kExperts, -1);
  for (std::size_t t = 0; t < kTokens; ++t) {
    logits[t * kExperts + static_cast<std::size_t>(kChosen[t][0])] =
        0.5 + 0.25 * static_cast<double>(t);
    logits[t * kExperts + static_cast<std::size_t>(kChosen[t][1])] = 0.25;
  }
  const auto scores = c.undefined(DType::kF32, shape_of(kTokens, kPerToken));
  const auto rows = c.tensor(DType::kI32, shape_of(kTokens, kPerToken), Values(kSent, -1));
  const auto ends = c.tensor(DType::kI32, {static_cast<std::int64_t>(kExperts)}, Values(4, -1));
  c.in({c.tensor(dtype, shape_of(kTokens, kExperts), logits, kExperts + 3)})
      .out({scores, rows, ends})
      .run();
  EXPECT_EQ(c.values(rows), kRows);
  EXPECT_EQ(c.values(ends), kEnds);
  Values want;
  for (std::size_t t = 0; t < kTokens; ++t) {
    // The softmax over both: that over all experts, divided by their sum.
    const double first = 1 / (1 + std::exp(0.25 - (0.5 + 0.25 * static_cast<double>(t))));
    append(want, {first, 1 - first});
  }
  expect_close(c.values(scores), want, DType::kF32, "scores", 4);
  return c.values(scores);
}

Values check_route_backward(const std::string& isa, DType dtype) {
  KernelCase c(Op::kRouteBackward, isa);
  const auto dscores = c.random(DType::kF32, shape_of(kTokens, kPerToken));
  Values scores;
  for (std::size_t t = 0; t < kTokens; ++t)
    append(scores, {0.1 * static_cast<double>(t), 1 - 0.1 * static_cast<double>(t)});
  const auto dlogits = c.undefined(dtype, shape_of(kTokens, kExperts));
  c.in({dscores, c.tensor(DType::kF32, shape_of(kTokens, kPerToken), scores),
        c.tensor(DType::kI32, shape_of(kTokens, kPerToken), kRows),
        c.tensor(DType::kI32, {static_cast<std::int64_t>(kExperts)}, kEnds)})
      .out({dlogits})
      .run();
  const Values d = c.values(dscores);
  Values want(kTokens * kExperts, 0);
  for (std::size_t t = 0; t < kTokens; ++t) {
    const double s0 = scores[2 * t];
    const double s1 = scores[2 * t + 1];
    // Of the softmax over two: s0 s1 (d0 - d1), and its negative.
    want[t * kExperts + static_cast<std::size_t>(kChosen[t][0])] =
        s0 * s1 * (d[2 * t] - d[2 * t + 1]);
    want[t * kExperts + static_cast<std::size_t>(kChosen[t][1])] =
        s0 * s1 * (d[2 * t + 1] - d[2 * t]);
  }
  expect_close(c.values(dlogits), want, dtype, "dlogits", 4);
  return c.values(dlogits);
}

Values check_dispatch(const std::string& isa, DType dtype) {
  KernelCase to(Op::kDispatch, isa);
  const auto x = to.random(dtype, shape_of(kTokens, kIn), kIn + 2);
  const auto sent = to.undefined(dtype, shape_of(kSent, kIn));
  to.in({x, to.tensor(DType::kI32, shape_of(kTokens, kPerToken), kRows)}).out({sent}).run();
  const Values from = to.values(x);
  Values want(kSent * kIn);
  for (std::size_t i = 0; i < kSent; ++i) {
    for (std::size_t j = 0; j < kIn; ++j)
      want[static_cast<std::size_t>(kRows[i]) * kIn + j] = from[i / kPerToken * kIn + j];
  }
  EXPECT_EQ(to.values(sent), want);

  Values all;
  for (const unsigned adds : {0U, 1U}) {
    KernelCase back(Op::kDispatchBackward, isa);
    const auto dsent = back.random(dtype, shape_of(kSent, kIn));
    const auto dx = adds == 0 ? back.undefined(dtype, shape_of(kTokens, kIn))
                              : back.random(dtype, shape_of(kTokens, kIn));
    Values sums = adds == 0 ? Values(kTokens * kIn, 0) : back.values(dx);
    const Values d = back.values(dsent);
    for (std::size_t i = 0; i < kSent; ++i) {
      for (std::size_t j = 0; j < kIn; ++j)
        sums[i / kPerToken * kIn + j] += d[static_cast<std::size_t>(kRows[i]) * kIn + j];
    }
    back.in({dsent, back.tensor(DType::kI32, shape_of(kTokens, kPerToken), kRows)})
        .out({dx})
        .accumulate(adds)
        .run();
    expect_close(back.values(dx), sums, dtype, "dx", 4);
    append(all, back.values(dx));
  }
  return all;
}

Values check_expert_linear(const std::string& isa, DType dtype) {
  KernelCase c(Op::kExpertLinear, isa);
  const auto x = c.random(dtype, shape_of(kSent, kIn));
  const auto w = c.random(dtype, shape_of(kExperts, kOut * kIn));
  const auto y = c.undefined(dtype, shape_of(kSent, kOut));
  c.in({x, w, c.tensor(DType::kI32, {static_cast<std::int64_t>(kExperts)}, kEnds)}).out({y}).run();
  const Values in = c.values(x);
  const Values weights = c.values(w);
  Values want(kSent * kOut, 0);
  for (std::size_t r = 0; r < kSent; ++r) {
    for (std::size_t o = 0; o < kOut; ++o) {
      for (std::size_t i = 0; i < kIn; ++i)
        want[r * kOut + o] += in[r * kIn + i] * weights[expert_of(r) * kOut * kIn + o * kIn + i];
    }
  }
  expect_close(c.values(y), want, dtype, "y", 4);
  return c.values(y);
}

Values check_expert_gradients(const std::string& isa, DType dtype) {
  Values all;
  for (const unsigned adds : {0U, 1U}) {
    KernelCase input(Op::kExpertInputGradient, isa);
    const auto dy = input.random(dtype, shape_of(kSent, kOut));
    const auto w = input.random(dtype, shape_of(kExperts, kOut * kIn));
    const auto dx = adds == 0 ? input.undefined(dtype, shape_of(kSent, kIn))
                              : input.random(dtype, shape_of(kSent, kIn));
    Values want = adds == 0 ? Values(kSent * kIn, 0) : input.values(dx);
    const Values d = input.values(dy);
    const Values weights = input.values(w);
    for (std::size_t i = 0; i < kSent * kIn * kOut; ++i) {
      const std::size_t r = i / (kIn * kOut);
      const std::size_t of = i % (kIn * kOut);  // o * in + i of the expert's matrix
      want[r * kIn + of % kIn] += d[r * kOut + of / kIn] * weights[expert_of(r) * kOut * kIn + of];
    }
    const auto ends = input.tensor(DType::kI32, {static_cast<std::int64_t>(kExperts)}, kEnds);
    input.in({dy, w, ends}).out({dx}).accumulate(adds).run();
    expect_close(input.values(dx), want, dtype, "dx", 4);
    append(all, input.values(dx));

    KernelCase weight(Op::kExpertWeightGradient, isa);
    const auto dy2 = weight.random(dtype, shape_of(kSent, kOut));
    const auto x = weight.random(dtype, shape_of(kSent, kIn));
    const DType sums = adds == 0 ? dtype : DType::kF32;
    const auto dw = adds == 0 ? weight.undefined(sums, shape_of(kExperts, kOut * kIn))
                              : weight.random(sums, shape_of(kExperts, kOut * kIn));
    want = adds == 0 ? Values(kExperts * kOut * kIn, 0) : weight.values(dw);
    const Values d2 = weight.values(dy2);
    const Values in = weight.values(x);
    for (std::size_t i = 0; i < kSent * kIn * kOut; ++i) {
      const std::size_t r = i / (kIn * kOut);
      const std::size_t of = i % (kIn * kOut);
      want[expert_of(r) * kOut * kIn + of] += d2[r * kOut + of / kIn] * in[r * kIn + of % kIn];
    }
    const auto ends2 = weight.tensor(DType::kI32, {static_cast<std::int64_t>(kExperts)}, kEnds);
    weight.in({dy2, x, ends2}).out({dw}).accumulate(adds).run();
    expect_close(weight.values(dw), want, dtype, "dw", 4);
    append(all, weight.values(dw));
  }
  return all;
}

Values check_combine(const std::string& isa, DType dtype) {
  KernelCase c(Op::kCombine, isa);
  const auto y = c.random(dtype, shape_of(kSent, kIn));
  const auto scores = c.random(DType::kF32, shape_of(kTokens, kPerToken));
  const auto x = c.undefined(dtype, shape_of(kTokens, kIn));
  const auto rows = c.tensor(DType::kI32, shape_of(kTokens, kPerToken), kRows);
  c.in({y, scores, rows}).out({x}).run();
  const Values s = c.values(scores);
  const Values sent = c.values(y);
  Values want(kTokens * kIn, 0);
  for (std::size_t i = 0; i < kSent; ++i) {
    for (std::size_t j = 0; j < kIn; ++j)
      want[i / kPerToken * kIn + j] += s[i] * sent[static_cast<std::size_t>(kRows[i]) * kIn + j];
  }
  expect_close(c.values(x), want, dtype, "x", 4);
  Values all = c.values(x);

  KernelCase back(Op::kCombineBackward, isa);
  const auto dx = back.random(dtype, shape_of(kTokens, kIn));
  const auto factors = back.random(DType::kF32, shape_of(kTokens, kPerToken));
  const auto becomes = back.random(dtype, shape_of(kSent, kIn));
  const auto dscores = back.undefined(DType::kF32, shape_of(kTokens, kPerToken));
  const Values d = back.values(dx);
  const Values f = back.values(factors);
  const Values before = back.values(becomes);
  back.in({dx, factors, back.tensor(DType::kI32, shape_of(kTokens, kPerToken), kRows)})
      .update({becomes})
      .out({dscores})
      .run();
  Values dy(kSent * kIn);
  Values ds(kSent, 0);
  for (std::size_t i = 0; i < kSent; ++i) {
    for (std::size_t j = 0; j < kIn; ++j) {
      const std::size_t at = static_cast<std::size_t>(kRows[i]) * kIn + j;
      dy[at] = f[i] * d[i / kPerToken * kIn + j];
      ds[i] += before[at] * d[i / kPerToken * kIn + j];
    }
  }
  expect_close(back.values(becomes), dy, dtype, "dy", 4);
  expect_close(back.values(dscores), ds, DType::kF32, "dscores", 4);
  append(all, back.values(becomes));
  return all;
}

}  // namespace ftplan::executor

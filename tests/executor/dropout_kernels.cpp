#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "program/attributes.h"
#include "program/op.h"
#include "program/step_program.h"
#include "tests/executor/kernel_case.h"

namespace ftplan::executor {
namespace {

using program::Op;
using program::Scalar;

constexpr std::int64_t kWidth = 35;

struct Key {
  double seed = 12;
  double step = 3;
  std::int32_t layer = 2;
  std::int64_t site = 4;
};

// Dropout of ones: zeros and 1 / (1 - p), for the rows of the global batch that `rows` names.
Values mask(const std::string& isa, DType dtype, const Values& rows, std::int64_t sequence,
            const Key& key, double probability = 0.25) {
  KernelCase c(Op::kDropout, isa);
  const auto batch = static_cast<std::int64_t>(rows.size());
  const Shape shape{batch * sequence, kWidth};
  const auto x = c.tensor(dtype, shape, Values(static_cast<std::size_t>(shape.elements()), 1.0));
  const auto ids = c.tensor(DType::kI32, {batch}, rows);
  const auto y = c.undefined(dtype, shape);
  c.in({x, ids}).out({y}).attributes(
      program::DropoutAttributes{.probability = probability, .site = key.site});
  c.scalar(Scalar::kSeed, key.seed).scalar(Scalar::kStep, key.step).layer(key.layer).run();
  return c.values(y);
}

double differing(const Values& a, const Values& b) {
  double count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += a[i] != b[i] ? 1 : 0;
  return count / static_cast<double>(a.size());
}

}  // namespace

Values check_dropout(const std::string& isa, DType dtype) {
  constexpr std::int64_t kSequence = 9;
  const Values whole = mask(isa, dtype, {0, 1, 2, 3}, kSequence, {});
  // However the global batch is cut into micro-batches, and however long its rows are padded.
  Values parts = mask(isa, dtype, {0}, kSequence, {});
  const Values rest = mask(isa, dtype, {1, 2, 3}, kSequence, {});
  parts.insert(parts.end(), rest.begin(), rest.end());
  EXPECT_EQ(parts, whole);
  const Values longer = mask(isa, dtype, {2}, kSequence + 7, {});
  const auto row = static_cast<std::size_t>(kSequence * kWidth);
  EXPECT_EQ(Values(longer.begin(), longer.begin() + static_cast<std::ptrdiff_t>(row)),
            Values(whole.begin() + static_cast<std::ptrdiff_t>(2 * row),
                   whole.begin() + static_cast<std::ptrdiff_t>(3 * row)));

  // Every part of the key counts: 2 p (1 - p) of the values differ.
  const double expected = 2 * 0.25 * 0.75;
  for (const Key& other : {Key{.seed = 13}, Key{.seed = 12 + 4294967296.0}, Key{.step = 4},
                           Key{.layer = 3}, Key{.site = 5}}) {
    EXPECT_NEAR(differing(mask(isa, dtype, {0, 1, 2, 3}, kSequence, other), whole), expected, 0.06);
  }
  EXPECT_NEAR(differing(mask(isa, dtype, {4, 5, 6, 7}, kSequence, {}), whole), expected, 0.06);

  // The share that is kept, and its scale: four standard deviations of 44,800 draws are 0.008.
  const Values many = mask(isa, dtype, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 128, {});
  double kept = 0;
  KernelCase scale(Op::kZero, isa);
  const double scaled = scale.values(scale.tensor(dtype, {1}, {1 / 0.75}))[0];
  for (const double value : many) {
    if (value != 0) {
      EXPECT_EQ(value, scaled);
      ++kept;
    }
  }
  EXPECT_NEAR(kept / static_cast<double>(many.size()), 0.75, 0.009);

  // The backward drops the same values, and adds.
  KernelCase c(Op::kDropoutBackward, isa);
  const Shape shape{4 * kSequence, kWidth};
  const auto dy = c.random(dtype, shape);
  const auto ids = c.tensor(DType::kI32, {4}, {0, 1, 2, 3});
  const auto dx = c.random(dtype, shape);
  Values want = c.values(dx);
  const Values d = c.values(dy);
  for (std::size_t i = 0; i < want.size(); ++i) want[i] += whole[i] != 0 ? d[i] / 0.75 : 0;
  c.in({dy, ids}).out({dx}).accumulate(1).attributes(
      program::DropoutAttributes{.probability = 0.25, .site = 4});
  c.scalar(Scalar::kSeed, 12).scalar(Scalar::kStep, 3).layer(2).run();
  expect_close(c.values(dx), want, dtype, "dx");
  Values all = c.values(dx);
  all.insert(all.end(), whole.begin(), whole.end());
  return all;
}

}  // namespace ftplan::executor

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <string>

#include "core/dtype.h"
#include "core/model_config.h"
#include "core/shape.h"
#include "program/attributes.h"
#include "program/op.h"
#include "tests/executor/kernel_case.h"

// Rotations, activations, groups of heads and elementwise kernels.

namespace ftplan::executor {
namespace {

using program::Op;

constexpr std::int64_t kRows = 7;
constexpr std::int64_t kWidth = 36;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

Values check_rotate(const std::string& isa, DType dtype) {
  constexpr std::int64_t kHeads = 3;
  constexpr std::int64_t kSize = 10;
  constexpr std::int64_t kPositions = 20;
  KernelCase table(Op::kRopeTable, isa);
  const auto angles = table.undefined(DType::kF32, {kPositions, kSize});
  table.out({angles}).attributes(program::RopeAttributes{.size = kSize, .theta = 100}).run();
  KernelCase c(Op::kRotate, isa);
  const auto t = c.random(dtype, {kRows, kHeads * kSize}, kHeads * kSize + 4);
  const auto copy = c.tensor(DType::kF32, {kPositions, kSize}, table.values(angles));
  const Values where = {0, 1, 2, 0, 19, 7, 3};
  const auto positions = c.tensor(DType::kI32, {kRows}, where);
  const Values before = c.values(t);
  Values want = before;
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t h = 0; h < kHeads; ++h) {
      for (std::size_t i = 0; i < kSize / 2; ++i) {
        const double angle = where[r] * std::pow(100.0, -2.0 * static_cast<double>(i) / kSize);
        const std::size_t first = (r * kHeads + h) * kSize + i;
        const std::size_t second = first + kSize / 2;
        want[first] = before[first] * std::cos(angle) - before[second] * std::sin(angle);
        want[second] = before[second] * std::cos(angle) + before[first] * std::sin(angle);
      }
    }
  }
  program::RotateAttributes a{.heads = kHeads, .head_size = kSize, .rotated = kSize};
  c.in({copy, positions}).update({t}).attributes(a).run();
  const Values rotated = c.values(t);
  expect_close(rotated, want, dtype, "rotated", 4);
  a.inverse = true;
  c.attributes(a).run();
  expect_close(c.values(t), before, dtype, "rotated back", 4);
  return rotated;
}

namespace {

using Frequencies = std::array<double, 2>;

// The table's rows at `rows` are those of `frequencies`, for heads of two.
Values check_table(const std::string& isa, const program::RopeAttributes& a,
                   const Values& positions, const Values& rows, const Frequencies& frequencies) {
  constexpr std::int64_t kPositions = 20;
  KernelCase c(Op::kRopeTable, isa);
  const auto table = c.undefined(DType::kF32, {kPositions, a.size});
  if (!positions.empty()) {
    const auto count = static_cast<std::int64_t>(positions.size());
    c.in({c.tensor(DType::kI32, {count}, positions)});
  }
  c.out({table}).attributes(a).run();
  const Values made = c.values(table);
  Values got;
  Values want;
  for (const double row : rows) {
    for (std::size_t i = 0; i < 4; ++i) {
      const double angle = row * frequencies[i % 2];
      want.push_back(a.attention_factor * (i < 2 ? std::cos(angle) : std::sin(angle)));
      got.push_back(made[static_cast<std::size_t>(row) * 4 + i]);
    }
  }
  expect_close(got, want, DType::kF32, "table", 4);
  return got;
}

}  // namespace

// Heads of four values: theta^(-2i/4) is 1 and 1/10.
Values check_rope_table(const std::string& isa, DType /*dtype*/) {
  program::RopeAttributes a{.size = 4, .theta = 100, .original_positions = 8};
  a.scaling = RopeScaling::kLongrope;
  a.attention_factor = 1.5;
  a.short_factors = {1, 2};
  a.long_factors = {3, 4};
  Values all = check_table(isa, a, {}, {0, 1, 19}, {1, 0.1 / 2});
  const auto check = [&](const Values& positions, const Values& rows, const Frequencies& want) {
    const Values made = check_table(isa, a, positions, rows, want);
    all.insert(all.end(), made.begin(), made.end());
  };
  const Values eight = {0, 1, 2, 3, 4, 5, 6, 7};
  check(eight, eight, {1, 0.1 / 2});
  check({0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1}, {0, 3, 8}, {1.0 / 3, 0.1 / 4});
  check({11, 0}, {0, 11}, {1.0 / 3, 0.1 / 4});  // fewer tokens than positions, as in decoding
  a.attention_factor = 1;
  a.scaling = RopeScaling::kDynamic;
  a.factor = 2;
  check(eight, eight, {1, 0.1});
  // base 100 * (2 * 16 / 8 - (2 - 1))^(4 / 2) = 900
  check({15, 3}, {3, 15}, {1, 1.0 / 30});
  a.scaling = RopeScaling::kYarn;
  // Eight positions are one radian's turns at index 0, and a hundredth of them at index 2.
  a.fast_turns = 8 / (2 * std::numbers::pi);
  a.slow_turns = a.fast_turns / 100;
  a.truncated = false;
  check({}, {0, 5}, {1, 0.1 * 0.5 + 0.1 / 2 * 0.5});
  return all;
}

namespace {

struct Activation {
  double (*value)(double x);
  double (*slope)(double x);
};

const Activation kSilu{[](double x) { return x * sigmoid(x); },
                       [](double x) {
                         const double s = sigmoid(x);
                         return s * (1 + x * (1 - s));
                       }};

// x / 2 * (1 + tanh(t)) with t = sqrt(2 / pi) * (x + 0.044715 x^3), as torch states it.
double gelu_tanh(double x) {
  return std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x));
}
const Activation kGelu{[](double x) { return x / 2 * (1 + gelu_tanh(x)); },
                       [](double x) {
                         const double t = gelu_tanh(x);
                         const double inner =
                             std::sqrt(2 / std::acos(-1.0)) * (1 + 3 * 0.044715 * x * x);
                         return (1 + t) / 2 + x / 2 * (1 - t * t) * inner;
                       }};

Values gated_forward(Op op, const Activation& activation, const std::string& isa, DType dtype) {
  KernelCase c(op, isa);
  Values wide = random_values(kRows * kWidth, 1);
  for (double& value : wide) value *= 12;
  wide[3] = 200;  // beyond the range of exp in f32
  wide[4] = -200;
  const auto g = c.tensor(dtype, {kRows, kWidth}, wide, kWidth + 2);
  const auto u = c.random(dtype, {kRows, kWidth});
  const auto a = c.undefined(dtype, {kRows, kWidth});
  const Values gs = c.values(g);
  const Values us = c.values(u);
  Values want;
  for (std::size_t i = 0; i < gs.size(); ++i) want.push_back(activation.value(gs[i]) * us[i]);
  c.in({g, u}).out({a}).run();
  expect_close(c.values(a), want, dtype, "a");
  return c.values(a);
}

Values gated_backward(Op op, const Activation& activation, const std::string& isa, DType dtype) {
  KernelCase c(op, isa);
  const auto da = c.random(dtype, {kRows, kWidth});
  Values wide = random_values(kRows * kWidth, 9);
  for (double& value : wide) value *= 8;
  const auto g = c.tensor(dtype, {kRows, kWidth}, wide);
  const auto u = c.random(dtype, {kRows, kWidth});
  const Values d = c.values(da);
  const Values x = c.values(g);
  const Values y = c.values(u);
  Values a, dg, du;
  for (std::size_t i = 0; i < d.size(); ++i) {
    a.push_back(activation.value(x[i]) * y[i]);
    dg.push_back(d[i] * y[i] * activation.slope(x[i]));
    du.push_back(d[i] * activation.value(x[i]));
  }
  c.update({da, g, u}).run();
  expect_close(c.values(da), a, dtype, "a");
  expect_close(c.values(g), dg, dtype, "dg");
  expect_close(c.values(u), du, dtype, "du");
  return joined(joined(c.values(da), c.values(g)), c.values(u));
}

}  // namespace

Values check_gated_silu(const std::string& isa, DType dtype) {
  return gated_forward(Op::kGatedSilu, kSilu, isa, dtype);
}
Values check_gated_silu_backward(const std::string& isa, DType dtype) {
  return gated_backward(Op::kGatedSiluBackward, kSilu, isa, dtype);
}
Values check_gated_gelu(const std::string& isa, DType dtype) {
  return gated_forward(Op::kGatedGelu, kGelu, isa, dtype);
}
Values check_gated_gelu_backward(const std::string& isa, DType dtype) {
  return gated_backward(Op::kGatedGeluBackward, kGelu, isa, dtype);
}

namespace {

// Through 0, where signs change, and beyond the range of exp in f32.
Values gelu_inputs() {
  Values wide = random_values(kRows * kWidth, 5);
  for (double& value : wide) value *= 6;
  wide[0] = 0;
  wide[1] = 1e-3;
  wide[2] = -1e-3;
  wide[3] = 200;
  wide[4] = -200;
  return wide;
}

double cumulative(double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; }

}  // namespace

Values check_gelu(const std::string& isa, DType dtype) {
  KernelCase c(Op::kGelu, isa);
  const auto x = c.tensor(dtype, {kRows, kWidth}, gelu_inputs(), kWidth + 2);
  const auto a = c.undefined(dtype, {kRows, kWidth});
  Values want;
  for (const double value : c.values(x)) want.push_back(value * cumulative(value));
  c.in({x}).out({a}).run();
  expect_close(c.values(a), want, dtype, "a");
  return c.values(a);
}

Values check_gelu_backward(const std::string& isa, DType dtype) {
  KernelCase c(Op::kGeluBackward, isa);
  const auto da = c.random(dtype, {kRows, kWidth});
  const auto x = c.tensor(dtype, {kRows, kWidth}, gelu_inputs());
  const Values d = c.values(da);
  const Values xs = c.values(x);
  Values a, dx;
  for (std::size_t i = 0; i < d.size(); ++i) {
    const double bell = std::exp(-xs[i] * xs[i] / 2) / std::sqrt(2 * std::acos(-1.0));
    a.push_back(xs[i] * cumulative(xs[i]));
    dx.push_back(d[i] * (cumulative(xs[i]) + xs[i] * bell));
  }
  c.update({da, x}).run();
  expect_close(c.values(da), a, dtype, "a");
  expect_close(c.values(x), dx, dtype, "dx");
  return joined(c.values(da), c.values(x));
}

// Two groups of three query heads, a key and a value, each 3 wide: y is [qqqkv qqqkv].
Values check_groups(const std::string& isa, DType dtype) {
  constexpr std::int64_t kSize = 3;
  constexpr std::int64_t kGroups = 2;
  constexpr std::int64_t kGroup = 5 * kSize;
  KernelCase c(Op::kSplitGroups, isa);
  const auto y = c.random(dtype, {kRows, kGroups * kGroup}, kGroups * kGroup + 1);
  const auto q = c.undefined(dtype, {kRows, kGroups * 3 * kSize});
  const auto k = c.undefined(dtype, {kRows, kGroups * kSize}, kGroups * kSize + 2);
  const auto v = c.undefined(dtype, {kRows, kGroups * kSize});
  Values want_q, want_k, want_v;
  const Values all = c.values(y);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::size_t head = i % kGroup / kSize;
    (head < 3 ? want_q : head == 3 ? want_k : want_v).push_back(all[i]);
  }
  c.in({y}).out({q, k, v}).attributes(program::GroupAttributes{kGroups}).run();
  EXPECT_EQ(c.values(q), want_q);
  EXPECT_EQ(c.values(k), want_k);
  EXPECT_EQ(c.values(v), want_v);

  KernelCase back(Op::kJoinGroups, isa);
  const auto dq = back.tensor(dtype, {kRows, kGroups * 3 * kSize}, want_q);
  const auto dk = back.tensor(dtype, {kRows, kGroups * kSize}, want_k);
  const auto dv = back.tensor(dtype, {kRows, kGroups * kSize}, want_v, kGroups * kSize + 2);
  const auto dy = back.undefined(dtype, {kRows, kGroups * kGroup});
  back.in({dq, dk, dv}).out({dy}).attributes(program::GroupAttributes{kGroups}).run();
  EXPECT_EQ(back.values(dy), all);
  return all;
}

Values check_elementwise(const std::string& isa, DType dtype) {
  const Shape shape{kRows, kWidth};
  KernelCase add(Op::kAdd, isa);
  const auto x = add.random(dtype, shape);
  const auto y = add.random(dtype, shape);
  Values sum = add.values(x);
  const Values other = add.values(y);
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += other[i];
  add.in({x}).update({y}).run();
  expect_close(add.values(y), sum, dtype, "sum");

  // There and back: exact, as every bf16 is an f32.
  KernelCase widen(Op::kCast, isa);
  const auto narrow = widen.random(dtype, shape);
  const auto single = widen.undefined(DType::kF32, shape);
  widen.in({narrow}).out({single}).run();
  EXPECT_EQ(widen.values(single), widen.values(narrow));

  // To the type, rounded as the reference conversion does.
  KernelCase round(Op::kCast, isa);
  const auto from = round.random(DType::kF32, shape);
  const auto to = round.undefined(dtype, shape);
  round.in({from}).out({to}).run();
  KernelCase rounded(Op::kZero, isa);
  EXPECT_EQ(round.values(to), rounded.values(rounded.tensor(dtype, shape, round.values(from))));

  KernelCase copy(Op::kCopy, isa);
  const auto a = copy.random(dtype, shape);
  const auto b = copy.undefined(dtype, shape);
  copy.in({a}).out({b}).run();
  EXPECT_EQ(copy.values(b), copy.values(a));

  KernelCase zero(Op::kZero, isa);
  const auto z = zero.undefined(dtype, shape);
  zero.out({z}).run();
  EXPECT_EQ(zero.values(z), Values(kRows * kWidth, 0.0));
  return add.values(y);
}

}  // namespace ftplan::executor

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "core/dtype.h"
#include "core/shape.h"
#include "program/attributes.h"
#include "program/op.h"
#include "tests/executor/kernel_case.h"

// Norms, rotations, activations and elementwise kernels.

namespace ftplan::executor {
namespace {

using program::Op;

constexpr std::int64_t kRows = 7;
constexpr std::int64_t kWidth = 36;
constexpr double kEpsilon = 1e-5;

Values joined(Values a, const Values& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// `width` values are normed at once.
Values inverse_rms(const Values& x, std::int64_t width) {
  Values inverse;
  const auto count = static_cast<std::size_t>(width);
  for (std::size_t at = 0; at < x.size(); at += count) {
    double sum = 0;
    for (std::size_t i = at; i < at + count; ++i) sum += x[i] * x[i];
    inverse.push_back(1 / std::sqrt(sum / static_cast<double>(width) + kEpsilon));
  }
  return inverse;
}

Values normed(const Values& x, const Values& w, const Values& inverse) {
  Values y;
  for (std::size_t i = 0; i < x.size(); ++i)
    y.push_back(x[i] * inverse[i / w.size()] * w[i % w.size()]);
  return y;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

namespace {

// A weight as wide as a row or as a head, what it is added to, and whether it has x's type or f32.
struct NormShape {
  std::int64_t width;
  double offset;
  bool in_f32;
  [[nodiscard]] DType dtype(DType of_x) const { return in_f32 ? DType::kF32 : of_x; }
  [[nodiscard]] program::NormAttributes attributes() const { return {kEpsilon, offset}; }
  [[nodiscard]] Values factors(Values w) const {
    for (double& value : w) value += offset;
    return w;
  }
};
constexpr NormShape kNorms[] = {{kWidth, 0, false},
                                {kWidth, 0, true},
                                {kWidth / 3, 0, false},
                                {kWidth / 3, 0, true},
                                {kWidth, 1, false}};

Values norm_forward(const std::string& isa, DType dtype, const NormShape& norm) {
  const std::int64_t width = norm.width;
  KernelCase c(Op::kRmsNorm, isa);
  const auto x = c.random(dtype, {kRows, kWidth}, kWidth + 5);
  const auto w = c.random(norm.dtype(dtype), {width});
  const auto y = c.undefined(dtype, {kRows, kWidth}, kWidth + 3);
  const auto inverse = c.undefined(DType::kF32, {kRows * (kWidth / width)});
  const Values want = inverse_rms(c.values(x), width);
  const Values want_y = normed(c.values(x), norm.factors(c.values(w)), want);
  c.in({x, w}).out({y, inverse}).attributes(norm.attributes()).run();
  expect_close(c.values(inverse), want, DType::kF32, "inv_rms");
  expect_close(c.values(y), want_y, dtype, "y");
  return joined(c.values(y), c.values(inverse));
}

Values norm_apply(const std::string& isa, DType dtype, const NormShape& norm) {
  const std::int64_t width = norm.width;
  KernelCase c(Op::kRmsNormApply, isa);
  const auto x = c.random(dtype, {kRows, kWidth});
  const auto w = c.random(norm.dtype(dtype), {width});
  const auto inverse =
      c.tensor(DType::kF32, {kRows * (kWidth / width)}, inverse_rms(c.values(x), width));
  const auto y = c.undefined(dtype, {kRows, kWidth});
  c.in({x, w, inverse}).out({y}).attributes(norm.attributes()).run();
  expect_close(c.values(y), normed(c.values(x), norm.factors(c.values(w)), c.values(inverse)),
               dtype, "y");
  return c.values(y);
}

// dx in a place of its own and added to, or in dy's place.
Values norm_backward(const std::string& isa, DType dtype, const NormShape& norm, bool in_place) {
  const std::int64_t width = norm.width;
  KernelCase c(Op::kRmsNormBackward, isa, /*threads=*/3);
  const auto dy = c.random(dtype, {kRows, kWidth});
  const auto x = c.random(dtype, {kRows, kWidth});
  const auto w = c.random(norm.dtype(dtype), {width});
  const auto inverse =
      c.tensor(DType::kF32, {kRows * (kWidth / width)}, inverse_rms(c.values(x), width));
  const auto dx = in_place ? dy : c.random(dtype, {kRows, kWidth});
  const auto dw = c.random(DType::kF32, {width});
  const Values g = c.values(dy);
  const Values xs = c.values(x);
  const Values ws = norm.factors(c.values(w));
  const Values s = c.values(inverse);
  Values want_x = in_place ? Values(g.size(), 0.0) : c.values(dx);
  Values want_w = in_place ? Values(ws.size(), 0.0) : c.values(dw);
  const std::size_t count = ws.size();
  for (std::size_t p = 0; p < s.size(); ++p) {
    double dot = 0;
    for (std::size_t i = 0; i < count; ++i) dot += g[p * count + i] * ws[i] * xs[p * count + i];
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t at = p * count + i;
      const double along = dot * s[p] * s[p] / static_cast<double>(count);
      want_x[at] += s[p] * (g[at] * ws[i] - xs[at] * along);
      want_w[i] += g[at] * xs[at] * s[p];
    }
  }
  c.in({dy, x, w, inverse}).out({dx, dw}).accumulate(in_place ? 0 : 0b11);
  c.attributes(norm.attributes()).run();
  expect_close(c.values(dx), want_x, dtype, "dx");
  expect_close(c.values(dw), want_w, DType::kF32, "dw", 2);
  return joined(c.values(dx), c.values(dw));
}

}  // namespace

Values check_rms_norm(const std::string& isa, DType dtype) {
  Values all;
  for (const NormShape& norm : kNorms) all = joined(std::move(all), norm_forward(isa, dtype, norm));
  return all;
}

Values check_rms_norm_apply(const std::string& isa, DType dtype) {
  Values all;
  for (const NormShape& norm : kNorms) all = joined(std::move(all), norm_apply(isa, dtype, norm));
  return all;
}

Values check_rms_norm_backward(const std::string& isa, DType dtype) {
  // Without a weight gradient it needs no scratch.
  KernelCase c(Op::kRmsNormBackward, isa);
  const auto dy = c.random(dtype, {kRows, kWidth});
  const auto x = c.random(dtype, {kRows, kWidth});
  const auto w = c.random(dtype, {kWidth});
  const auto inverse = c.tensor(DType::kF32, {kRows}, inverse_rms(c.values(x), kWidth));
  const auto dx = c.undefined(dtype, {kRows, kWidth});
  c.in({dy, x, w, inverse}).out({dx, KernelCase::kAbsent});
  c.attributes(program::NormAttributes{kEpsilon}).run();
  Values all = c.values(dx);
  for (const NormShape& norm : kNorms) {
    for (const bool in_place : {false, true})
      all = joined(std::move(all), norm_backward(isa, dtype, norm, in_place));
  }
  return all;
}

Values check_rotate(const std::string& isa, DType dtype) {
  constexpr std::int64_t kHeads = 3;
  constexpr std::int64_t kSize = 10;
  constexpr std::int64_t kPositions = 20;
  KernelCase table(Op::kRopeTable, isa);
  const auto angles = table.undefined(DType::kF32, {kPositions, kSize});
  table.out({angles}).attributes(program::RopeAttributes{.head_size = kSize, .theta = 100}).run();
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
  program::RotateAttributes a{.heads = kHeads, .head_size = kSize};
  c.in({copy, positions}).update({t}).attributes(a).run();
  const Values rotated = c.values(t);
  expect_close(rotated, want, dtype, "rotated", 4);
  a.inverse = true;
  c.attributes(a).run();
  expect_close(c.values(t), before, dtype, "rotated back", 4);
  return rotated;
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

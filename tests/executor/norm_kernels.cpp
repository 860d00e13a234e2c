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

namespace ftplan::executor {
namespace {

using program::Op;

constexpr std::int64_t kRows = 7;
constexpr std::int64_t kWidth = 36;
constexpr double kEpsilon = 1e-5;

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

namespace {

// Mean and 1/std of each row.
Values moments_of(const Values& x) {
  Values moments;
  for (std::size_t at = 0; at < x.size(); at += kWidth) {
    double sum = 0;
    double squares = 0;
    for (std::size_t i = at; i < at + kWidth; ++i) sum += x[i];
    const double mean = sum / kWidth;
    for (std::size_t i = at; i < at + kWidth; ++i) squares += (x[i] - mean) * (x[i] - mean);
    moments.push_back(mean);
    moments.push_back(1 / std::sqrt(squares / kWidth + kEpsilon));
  }
  return moments;
}

double centred(const Values& x, const Values& moments, std::size_t i) {
  return (x[i] - moments[2 * (i / kWidth)]) * moments[2 * (i / kWidth) + 1];
}

Values layer_normed(const Values& x, const Values& w, const Values& b, const Values& moments) {
  Values y;
  for (std::size_t i = 0; i < x.size(); ++i)
    y.push_back(centred(x, moments, i) * w[i % kWidth] + b[i % kWidth]);
  return y;
}

Values layer_norm_forward(const std::string& isa, DType dtype, DType of_weight) {
  KernelCase c(Op::kLayerNorm, isa);
  // Rows whose mean is large beside their spread.
  Values values = random_values(kRows * kWidth, 3);
  for (double& value : values) value += 4;
  const auto x = c.tensor(dtype, {kRows, kWidth}, values, kWidth + 5);
  const auto w = c.random(of_weight, {kWidth});
  const auto b = c.random(of_weight, {kWidth});
  const auto y = c.undefined(dtype, {kRows, kWidth}, kWidth + 3);
  const auto moments = c.undefined(DType::kF32, {kRows, 2});
  const Values want = moments_of(c.values(x));
  const Values want_y = layer_normed(c.values(x), c.values(w), c.values(b), want);
  c.in({x, w, b}).out({y, moments}).attributes(program::NormAttributes{kEpsilon}).run();
  expect_close(c.values(moments), want, DType::kF32, "moments");
  expect_close(c.values(y), want_y, dtype, "y", dtype == DType::kF32 ? 4 : 1);
  return joined(c.values(y), c.values(moments));
}

// dx in a place of its own and added to, or in dy's place; gradients of w and b, or none.
Values layer_norm_backward(const std::string& isa, DType dtype, DType of_weight, bool in_place) {
  KernelCase c(Op::kLayerNormBackward, isa, /*threads=*/3);
  const auto dy = c.random(dtype, {kRows, kWidth});
  const auto x = c.random(dtype, {kRows, kWidth});
  const auto w = c.random(of_weight, {kWidth});
  const auto moments = c.tensor(DType::kF32, {kRows, 2}, moments_of(c.values(x)));
  const auto dx = in_place ? dy : c.random(dtype, {kRows, kWidth});
  const auto dw = c.random(DType::kF32, {kWidth});
  const auto db = c.random(DType::kF32, {kWidth});
  const Values g = c.values(dy);
  const Values xs = c.values(x);
  const Values ws = c.values(w);
  const Values m = c.values(moments);
  Values want_x = in_place ? Values(g.size(), 0.0) : c.values(dx);
  Values want_w = in_place ? Values(ws.size(), 0.0) : c.values(dw);
  Values want_b = in_place ? Values(ws.size(), 0.0) : c.values(db);
  for (std::size_t r = 0; r < kRows; ++r) {
    double sum = 0;
    double dot = 0;
    for (std::size_t i = r * kWidth; i < (r + 1) * kWidth; ++i) {
      sum += g[i] * ws[i % kWidth];
      dot += g[i] * ws[i % kWidth] * centred(xs, m, i);
    }
    for (std::size_t i = r * kWidth; i < (r + 1) * kWidth; ++i) {
      const double apart = centred(xs, m, i);
      want_x[i] += m[2 * r + 1] * (g[i] * ws[i % kWidth] - sum / kWidth - apart * dot / kWidth);
      want_w[i % kWidth] += g[i] * apart;
      want_b[i % kWidth] += g[i];
    }
  }
  c.in({dy, x, w, moments}).out({dx, dw, db}).accumulate(in_place ? 0 : 0b111);
  c.attributes(program::NormAttributes{kEpsilon}).run();
  expect_close(c.values(dx), want_x, dtype, "dx");
  expect_close(c.values(dw), want_w, DType::kF32, "dw", 2);
  expect_close(c.values(db), want_b, DType::kF32, "db", 2);
  return joined(joined(c.values(dx), c.values(dw)), c.values(db));
}

}  // namespace

Values check_layer_norm(const std::string& isa, DType dtype) {
  return joined(layer_norm_forward(isa, dtype, dtype), layer_norm_forward(isa, dtype, DType::kF32));
}

Values check_layer_norm_apply(const std::string& isa, DType dtype) {
  KernelCase c(Op::kLayerNormApply, isa);
  const auto x = c.random(dtype, {kRows, kWidth});
  const auto w = c.random(DType::kF32, {kWidth});
  const auto b = c.random(DType::kF32, {kWidth});
  const auto moments = c.tensor(DType::kF32, {kRows, 2}, moments_of(c.values(x)));
  const auto y = c.undefined(dtype, {kRows, kWidth});
  c.in({x, w, b, moments}).out({y}).attributes(program::NormAttributes{kEpsilon}).run();
  expect_close(c.values(y), layer_normed(c.values(x), c.values(w), c.values(b), c.values(moments)),
               dtype, "y");
  return c.values(y);
}

Values check_layer_norm_backward(const std::string& isa, DType dtype) {
  // Without gradients of the weights it needs no scratch.
  KernelCase c(Op::kLayerNormBackward, isa);
  const auto dy = c.random(dtype, {kRows, kWidth});
  const auto x = c.random(dtype, {kRows, kWidth});
  const auto w = c.random(dtype, {kWidth});
  const auto moments = c.tensor(DType::kF32, {kRows, 2}, moments_of(c.values(x)));
  const auto dx = c.undefined(dtype, {kRows, kWidth});
  c.in({dy, x, w, moments}).out({dx, KernelCase::kAbsent, KernelCase::kAbsent});
  c.attributes(program::NormAttributes{kEpsilon}).run();
  Values all = c.values(dx);
  for (const DType of_weight : {dtype, DType::kF32}) {
    for (const bool in_place : {false, true})
      all = joined(std::move(all), layer_norm_backward(isa, dtype, of_weight, in_place));
  }
  return all;
}

}  // namespace ftplan::executor

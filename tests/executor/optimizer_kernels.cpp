#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "models/convert.h"
#include "program/attributes.h"
#include "program/op.h"
#include "program/step_program.h"
#include "tests/executor/kernel_case.h"

// Updates of weights, with and without masters.

namespace ftplan::executor {
namespace {

using program::Op;
using program::Scalar;

constexpr std::int64_t kCount = 4096 + 77;

// 16-bit weights are their masters, rounded.
void expect_rounded(const KernelCase& c, KernelCase::Id w, KernelCase::Id master) {
  Values rounded = c.values(master);
  for (double& each : rounded)
    each = models::bf16_to_f32(models::f32_to_bf16(static_cast<float>(each)));
  EXPECT_EQ(c.values(w), rounded);
}

}  // namespace

Values check_adamw(const std::string& isa, DType dtype) {
  constexpr double kRate = 0.01;
  constexpr double kStep = 3;
  const program::AdamwAttributes a{
      .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-6, .weight_decay = 0.1};
  KernelCase c(Op::kAdamw, isa);
  const bool has_master = dtype == DType::kBf16;
  const auto g = c.random(dtype, {kCount});
  const auto coefficient = c.tensor(DType::kF32, {1}, {0.5});
  const auto w = c.random(dtype, {kCount});
  const auto m = c.random(DType::kF32, {kCount});
  Values squares = random_values(kCount, 77);
  for (double& value : squares) value *= value;
  squares[5] = 0;
  const auto v = c.tensor(DType::kF32, {kCount}, squares);
  const auto master = c.random(DType::kF32, {kCount});
  const auto value = has_master ? master : w;
  const double correction1 = 1 - std::pow(a.beta1, kStep);
  const double correction2 = 1 - std::pow(a.beta2, kStep);
  const Values gs = c.values(g);
  Values ms = c.values(m);
  Values vs = c.values(v);
  Values want = c.values(value);
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double gradient = gs[i] * 0.5;
    ms[i] = a.beta1 * ms[i] + (1 - a.beta1) * gradient;
    vs[i] = a.beta2 * vs[i] + (1 - a.beta2) * gradient * gradient;
    want[i] -= kRate * a.weight_decay * want[i];
    want[i] -= kRate * (ms[i] / correction1) / (std::sqrt(vs[i] / correction2) + a.epsilon);
  }
  c.in({g, coefficient}).attributes(a);
  has_master ? c.update({w, m, v, master}) : c.update({w, m, v});
  c.scalar(Scalar::kLearningRate, kRate).scalar(Scalar::kBiasCorrection1, correction1);
  c.scalar(Scalar::kBiasCorrection2, correction2).run();
  expect_close(c.values(m), ms, DType::kF32, "m");
  expect_close(c.values(v), vs, DType::kF32, "v");
  expect_close(c.values(value), want, DType::kF32, "w");
  if (has_master) expect_rounded(c, w, master);
  return c.values(value);
}

Values check_sgd(const std::string& isa, DType dtype) {
  constexpr double kRate = 0.01;
  Values all;
  for (const double momentum : {0.0, 0.9}) {
    KernelCase c(Op::kSgd, isa);
    const bool has_master = dtype == DType::kBf16;
    const auto g = c.random(dtype, {kCount});
    const auto coefficient = c.tensor(DType::kF32, {1}, {0.5});
    const auto w = c.random(dtype, {kCount});
    const auto m = c.random(DType::kF32, {kCount});
    const auto master = c.random(DType::kF32, {kCount});
    const auto value = has_master ? master : w;
    const Values gs = c.values(g);
    Values ms = c.values(m);
    Values want = c.values(value);
    for (std::size_t i = 0; i < want.size(); ++i) {
      double change = gs[i] * 0.5 + 0.1 * want[i];
      if (momentum > 0) change = ms[i] = momentum * ms[i] + change;
      want[i] -= kRate * change;
    }
    c.in({g, coefficient}).attributes(program::SgdAttributes{momentum, 0.1});
    if (momentum > 0) {
      has_master ? c.update({w, m, master}) : c.update({w, m});
    } else {
      has_master ? c.update({w, master}) : c.update({w});
    }
    c.scalar(Scalar::kLearningRate, kRate).run();
    expect_close(c.values(m), ms, DType::kF32, "momentum");
    expect_close(c.values(value), want, DType::kF32, "w");
    if (has_master) expect_rounded(c, w, master);
    const Values values = c.values(value);
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

}  // namespace ftplan::executor

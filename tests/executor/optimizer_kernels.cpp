#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "models/convert.h"
#include "models/dynamic_map.h"
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
constexpr double kCoefficient = 0.5;  // of clipping
constexpr double kRate = 0.01;
constexpr double kStep = 3;

Values random_squares() {
  Values squares = random_values(kCount, 77);
  for (double& value : squares) value *= value;
  squares[5] = 0;
  return squares;
}

// 16-bit weights are their masters, rounded.
void expect_rounded(const KernelCase& c, KernelCase::Id w, KernelCase::Id master, DType dtype) {
  const Values masters = c.values(master);
  std::vector<float> rounded(masters.begin(), masters.end());
  std::vector<std::byte> bytes(rounded.size() * static_cast<std::size_t>(size_of(dtype).value));
  models::from_f32(rounded, dtype, bytes);
  models::to_f32(bytes, dtype, rounded);
  EXPECT_EQ(c.values(w), Values(rounded.begin(), rounded.end()));
}

// Moments and values before and after a step of AdamW.
struct Reference {
  Values m, v, value;

  void step(const program::AdamwAttributes& a, const Values& g) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      const double gradient = g[i] * kCoefficient;
      m[i] = a.beta1 * m[i] + (1 - a.beta1) * gradient;
      v[i] = a.beta2 * v[i] + (1 - a.beta2) * gradient * gradient;
      value[i] -= kRate * a.weight_decay * value[i];
      value[i] -= kRate * (m[i] / (1 - std::pow(a.beta1, kStep))) /
                  (std::sqrt(v[i] / (1 - std::pow(a.beta2, kStep))) + a.epsilon);
    }
  }
};

void run_step(KernelCase& c, const program::AdamwAttributes& a) {
  c.attributes(a).scalar(Scalar::kLearningRate, kRate);
  c.scalar(Scalar::kBiasCorrection1, 1 - std::pow(a.beta1, kStep));
  c.scalar(Scalar::kBiasCorrection2, 1 - std::pow(a.beta2, kStep)).run();
}

// 8-bit codes in blocks, as the values that they stand for.
struct Blocks {
  Values codes, scales, values;
};

Blocks quantized(const Values& from, const models::DynamicMap& map) {
  Blocks blocks{.codes = Values(from.size()), .scales = {}, .values = Values(from.size())};
  std::vector<float> values(from.begin(), from.end());
  std::vector<std::uint8_t> codes(from.size());
  for (std::size_t at = 0; at < values.size(); at += models::kDynamicBlock) {
    const std::size_t size = std::min<std::size_t>(models::kDynamicBlock, values.size() - at);
    const std::span block(codes.data() + at, size);
    const float scale = models::quantize_block({values.data() + at, size}, map, block);
    models::dequantize_block(block, scale, map, {values.data() + at, size});
    blocks.scales.push_back(scale);
  }
  blocks.codes.assign(codes.begin(), codes.end());
  blocks.values.assign(values.begin(), values.end());
  return blocks;
}

// Codes are those of what the reference computed, but for neighbours where rounding decides.
void expect_codes(const Values& got, const Values& want, std::size_t count) {
  std::size_t different = 0;
  for (std::size_t i = 0; i < count; ++i) {
    EXPECT_LE(std::abs(got[i] - want[i]), 1) << i;
    different += got[i] != want[i] ? 1 : 0;
  }
  EXPECT_LE(different, count / 1000);
}

}  // namespace

// The gradient is `kLossScale` times larger than that of the loss: so is its norm.
Values check_clip(const std::string& isa, DType /*of no operand*/) {
  constexpr double kLossScale = 1024;
  Values all;
  const auto clipped = [&](double norm, double limit) {
    KernelCase c(Op::kClip, isa);
    const auto sum = c.tensor(DType::kF64, {1}, {norm * norm * kLossScale * kLossScale});
    const auto coefficient = c.undefined(DType::kF32, {1});
    c.in({sum}).out({coefficient}).attributes(program::ClipAttributes{limit});
    c.scalar(Scalar::kLossScale, kLossScale).run();
    EXPECT_EQ(c.scalar(Scalar::kGradientsFinite), std::isfinite(norm) ? 1 : 0);
    all.push_back(c.values(coefficient)[0]);
    return all.back();
  };
  EXPECT_EQ(clipped(0.5, 1), 1 / kLossScale);
  EXPECT_EQ(clipped(8, 0), 1 / kLossScale);
  EXPECT_NEAR(clipped(8, 2), 0.25 / kLossScale, 1e-6 / kLossScale);
  EXPECT_EQ(clipped(std::numeric_limits<double>::infinity(), 1), 0);
  return all;
}

Values check_adamw(const std::string& isa, DType dtype) {
  const program::AdamwAttributes a{
      .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-6, .weight_decay = 0.1};
  KernelCase c(Op::kAdamw, isa);
  const bool has_master = dtype != DType::kF32;
  const auto g = c.random(dtype, {kCount});
  const auto coefficient = c.tensor(DType::kF32, {1}, {kCoefficient});
  const auto w = c.random(dtype, {kCount});
  const auto m = c.random(DType::kF32, {kCount});
  const auto v = c.tensor(DType::kF32, {kCount}, random_squares());
  const auto master = c.random(DType::kF32, {kCount});
  const auto value = has_master ? master : w;
  Reference want{c.values(m), c.values(v), c.values(value)};
  want.step(a, c.values(g));
  c.in({g, coefficient});
  has_master ? c.update({w, m, v, master}) : c.update({w, m, v});
  run_step(c, a);
  expect_close(c.values(m), want.m, DType::kF32, "m");
  expect_close(c.values(v), want.v, DType::kF32, "v");
  expect_close(c.values(value), want.value, DType::kF32, "w");
  if (has_master) expect_rounded(c, w, master, dtype);
  return c.values(value);
}

Values check_adamw8bit(const std::string& isa, DType dtype) {
  // Blocks and a part of one, then padding up to a whole block.
  constexpr std::int64_t kPadded = 4096 + 256;
  const program::AdamwAttributes a{.beta1 = 0.9,
                                   .beta2 = 0.95,
                                   .epsilon = 1e-6,
                                   .weight_decay = 0.1,
                                   .padding = kPadded - kCount};
  const auto padded = [](Values values) { return values.resize(kPadded), values; };
  KernelCase c(Op::kAdamw8bit, isa);
  const bool has_master = dtype != DType::kF32;
  const auto g = c.tensor(dtype, {kPadded}, padded(random_values(kCount, 1)));
  const auto coefficient = c.tensor(DType::kF32, {1}, {kCoefficient});
  const auto w = c.tensor(dtype, {kPadded}, padded(random_values(kCount, 2)));
  const auto master = c.tensor(DType::kF32, {kPadded}, padded(random_values(kCount, 3)));
  const auto value = has_master ? master : w;
  const Blocks m = quantized(random_values(kCount, 4), models::signed_dynamic_map());
  const Blocks v = quantized(random_squares(), models::unsigned_dynamic_map());
  const auto codes1 = c.tensor(DType::kU8, {kPadded}, padded(m.codes));
  const auto codes2 = c.tensor(DType::kU8, {kPadded}, padded(v.codes));
  const auto scales1 = c.tensor(DType::kF32, {models::dynamic_blocks(kPadded)}, m.scales);
  const auto scales2 = c.tensor(DType::kF32, {models::dynamic_blocks(kPadded)}, v.scales);
  Values first = c.values(value);
  first.resize(kCount);
  Reference want{m.values, v.values, first};
  want.step(a, c.values(g));
  c.in({g, coefficient});
  has_master ? c.update({w, codes1, codes2, scales1, scales2, master})
             : c.update({w, codes1, codes2, scales1, scales2});
  run_step(c, a);
  expect_close(c.values(value), padded(want.value), DType::kF32, "w");
  const Blocks want1 = quantized(want.m, models::signed_dynamic_map());
  const Blocks want2 = quantized(want.v, models::unsigned_dynamic_map());
  expect_close(c.values(scales1), want1.scales, DType::kF32, "scales of m");
  expect_close(c.values(scales2), want2.scales, DType::kF32, "scales of v");
  expect_codes(c.values(codes1), want1.codes, kCount);
  expect_codes(c.values(codes2), want2.codes, kCount);
  for (const auto codes : {codes1, codes2}) {
    const Values all = c.values(codes);
    for (std::size_t i = kCount; i < kPadded; ++i) EXPECT_EQ(all[i], 0) << "padding";
  }
  if (has_master) expect_rounded(c, w, master, dtype);
  return c.values(value);
}

Values check_sgd(const std::string& isa, DType dtype) {
  Values all;
  for (const double momentum : {0.0, 0.9}) {
    KernelCase c(Op::kSgd, isa);
    const bool has_master = dtype != DType::kF32;
    const auto g = c.random(dtype, {kCount});
    const auto coefficient = c.tensor(DType::kF32, {1}, {kCoefficient});
    const auto w = c.random(dtype, {kCount});
    const auto m = c.random(DType::kF32, {kCount});
    const auto master = c.random(DType::kF32, {kCount});
    const auto value = has_master ? master : w;
    const Values gs = c.values(g);
    Values ms = c.values(m);
    Values want = c.values(value);
    for (std::size_t i = 0; i < want.size(); ++i) {
      double change = gs[i] * kCoefficient + 0.1 * want[i];
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
    if (has_master) expect_rounded(c, w, master, dtype);
    const Values values = c.values(value);
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

}  // namespace ftplan::executor

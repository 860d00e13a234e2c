#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "models/convert.h"
#include "models/int8.h"
#include "program/attributes.h"
#include "program/op.h"
#include "tests/executor/kernel_case.h"

// Products with 8-bit weights.

namespace ftplan::executor {
namespace {

using program::Op;

struct Sizes {
  std::int64_t tokens, outputs, inputs;
};
// Odd counts, more than one block of a product in each direction, one token.
const Sizes kSizes[] = {{11, 13, 37}, {5, 270, 1100}, {260, 7, 70}, {1, 64, 128}};

struct Int8 {
  std::vector<std::int8_t> codes;
  std::vector<float> scales;
};

Int8 int8_of(const Values& values, std::int64_t width) {
  const std::vector<float> from(values.begin(), values.end());
  Int8 to{.codes = std::vector<std::int8_t>(from.size()), .scales = {}};
  for (std::size_t at = 0; at < from.size(); at += static_cast<std::size_t>(width)) {
    const std::span row(from.data() + at, static_cast<std::size_t>(width));
    to.scales.push_back(models::int8_absmax(row));
    models::quantize_int8(row, to.scales.back(), {to.codes.data() + at, row.size()});
  }
  return to;
}

struct Weight {
  Int8 int8;
  KernelCase::Id codes, scales;

  // code * scale / 127 as `dtype`.
  [[nodiscard]] double value(std::size_t i, std::int64_t width, DType dtype) const {
    float value = static_cast<float>(int8.codes[i]) *
                  int8.scales[i / static_cast<std::size_t>(width)] * models::kInt8Step;
    if (dtype == DType::kBf16) value = models::bf16_to_f32(models::f32_to_bf16(value));
    if (dtype == DType::kF16) value = models::f16_to_f32(models::f32_to_f16(value));
    return value;
  }
};

Weight weight_of(KernelCase& c, const Sizes& s) {
  Weight w{.int8 = int8_of(random_values(s.outputs * s.inputs, /*seed=*/5), s.inputs)};
  w.codes = c.tensor(DType::kI8, {s.outputs * s.inputs},
                     Values(w.int8.codes.begin(), w.int8.codes.end()));
  w.scales = c.tensor(DType::kF32, {s.outputs}, Values(w.int8.scales.begin(), w.int8.scales.end()));
  return w;
}

// Random values, and one of 9 in each of some columns.
Values with_outliers(const Sizes& s, const std::set<std::int64_t>& columns) {
  Values x = random_values(s.tokens * s.inputs, /*seed=*/8);
  std::int64_t token = 0;
  for (const std::int64_t column : columns)
    x[static_cast<std::size_t>(token++ % s.tokens * s.inputs + column)] = 9;
  return x;
}

// The product of integers, and that of columns with outliers.
Values product_of(const Values& x, const Weight& w, const Sizes& s,
                  const std::set<std::int64_t>& columns, DType dtype) {
  Values plain = x;
  for (double& value : plain) value = std::abs(value) >= 6 ? 0 : value;
  const Int8 rows = int8_of(plain, s.inputs);
  Values y;
  for (std::int64_t t = 0; t < s.tokens; ++t) {
    for (std::int64_t o = 0; o < s.outputs; ++o) {
      std::int64_t sum = 0;
      double apart = 0;
      for (std::int64_t i = 0; i < s.inputs; ++i) {
        const auto at_x = static_cast<std::size_t>(t * s.inputs + i);
        const auto at_w = static_cast<std::size_t>(o * s.inputs + i);
        if (columns.contains(i)) {
          apart += x[at_x] * w.value(at_w, s.inputs, dtype);
        } else {
          sum += std::int64_t{rows.codes[at_x]} * w.int8.codes[at_w];
        }
      }
      y.push_back(static_cast<double>(sum) * rows.scales[static_cast<std::size_t>(t)] *
                      w.int8.scales[static_cast<std::size_t>(o)] * models::kInt8ProductStep +
                  apart);
    }
  }
  return y;
}

}  // namespace

Values check_linear_int8(const std::string& isa, DType dtype) {
  Values all;
  for (const Sizes& s : kSizes) {
    std::set<std::int64_t> every_third;  // more than a block of them where there are 1,100
    for (std::int64_t i = 0; i < s.inputs; i += s.inputs > 1000 ? 2 : 3) every_third.insert(i);
    for (const auto& columns : {std::set<std::int64_t>{}, {3}, every_third}) {
      KernelCase c(Op::kLinearInt8, isa);
      const auto x = c.tensor(dtype, {s.tokens, s.inputs}, with_outliers(s, columns), s.inputs + 6);
      const Weight w = weight_of(c, s);
      const bool biased = columns.size() == 1;
      const auto bias = biased ? c.random(dtype, {s.outputs}) : KernelCase::kAbsent;
      const auto y = c.undefined(dtype, {s.tokens, s.outputs});
      Values want = product_of(c.values(x), w, s, columns, dtype);
      for (std::size_t i = 0; biased && i < want.size(); ++i)
        want[i] += c.values(bias)[i % static_cast<std::size_t>(s.outputs)];
      c.in({x, w.codes, w.scales, bias}).out({y});
      c.attributes(program::Int8Attributes{.threshold = models::kInt8Threshold}).run();
      expect_close(c.values(y), want, dtype, "y", 2);
      all = joined(all, c.values(y));
    }
  }
  return all;
}

Values check_linear_int8_input_gradient(const std::string& isa, DType dtype) {
  Values all;
  for (const Sizes& s : kSizes) {
    for (const bool adds : {false, true}) {
      KernelCase c(Op::kLinearInt8InputGradient, isa);
      const auto dy = c.random(dtype, {s.tokens, s.outputs});
      const Weight w = weight_of(c, s);
      const auto dx =
          adds ? c.random(dtype, {s.tokens, s.inputs}) : c.undefined(dtype, {s.tokens, s.inputs});
      Values want =
          adds ? c.values(dx) : Values(static_cast<std::size_t>(s.tokens * s.inputs), 0.0);
      const Values gradient = c.values(dy);
      for (std::size_t i = 0; i < want.size(); ++i) {
        const auto width = static_cast<std::size_t>(s.inputs);
        const auto outputs = static_cast<std::size_t>(s.outputs);
        for (std::size_t o = 0; o < outputs; ++o)
          want[i] +=
              gradient[i / width * outputs + o] * w.value(o * width + i % width, s.inputs, dtype);
      }
      c.in({dy, w.codes, w.scales}).out({dx}).accumulate(adds ? 1 : 0).run();
      expect_close(c.values(dx), want, dtype, "dx", 2);
      all = joined(all, c.values(dx));
    }
  }
  return all;
}

}  // namespace ftplan::executor

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "models/convert.h"
#include "models/nf4.h"
#include "program/op.h"
#include "tests/executor/kernel_case.h"

// Products with packed weights.

namespace ftplan::executor {
namespace {

using program::Op;

// A weight [outputs, inputs] as operands of a case, and the values that a product must see.
struct Packed {
  KernelCase::Id packed = KernelCase::kAbsent;
  KernelCase::Id absmax = KernelCase::kAbsent;
  KernelCase::Id nested = KernelCase::kAbsent;
  KernelCase::Id offset = KernelCase::kAbsent;
  Values values;
};

template <class T>
KernelCase::Id tensor_of(KernelCase& c, DType dtype, const std::vector<T>& values) {
  return c.tensor(dtype, {static_cast<std::int64_t>(values.size())},
                  Values(values.begin(), values.end()));
}

Packed pack(KernelCase& c, std::int64_t elements, DType compute, bool nested) {
  const auto counts = models::nf4_counts(elements);
  const auto sized = [](std::int64_t count) { return static_cast<std::size_t>(count); };
  const Values random = random_values(elements, /*seed=*/5);
  std::vector<float> values(random.begin(), random.end());
  std::vector<std::uint8_t> packed(sized(counts.packed));
  std::vector<float> absmax(sized(counts.blocks));
  models::quantize_nf4(values, packed, absmax);
  Packed w{.packed = tensor_of(c, DType::kU8, packed)};
  if (nested) {
    std::vector<std::uint8_t> codes(sized(counts.blocks));
    std::vector<float> scales(sized(counts.nested));
    const float offset = models::mean_of(absmax);
    models::quantize_absmax(absmax, offset, codes, scales);
    models::dequantize_absmax(codes, scales, offset, absmax);
    w.absmax = tensor_of(c, DType::kU8, codes);
    w.nested = tensor_of(c, DType::kF32, scales);
    w.offset = tensor_of(c, DType::kF32, std::vector<float>{offset});
  } else {
    w.absmax = tensor_of(c, DType::kF32, absmax);
  }
  models::dequantize_nf4(packed, absmax, values);
  std::vector<std::byte> rounded(values.size() * sized(size_of(compute).value));
  models::from_f32(values, compute, rounded);
  models::to_f32(rounded, compute, values);
  w.values.assign(values.begin(), values.end());
  return w;
}

struct Sizes {
  std::int64_t tokens, outputs, inputs;
};
// Blocks of 64 that straddle rows, an odd count, more than one block of a product in each
// direction.
const Sizes kSizes[] = {{11, 13, 37}, {5, 270, 530}, {260, 7, 70}, {3, 64, 128}};

Values times_transposed(const Values& x, const Values& w, const Sizes& s) {
  Values y;
  for (std::int64_t t = 0; t < s.tokens; ++t) {
    for (std::int64_t o = 0; o < s.outputs; ++o) {
      double sum = 0;
      for (std::int64_t i = 0; i < s.inputs; ++i) {
        sum += x[static_cast<std::size_t>(t * s.inputs + i)] *
               w[static_cast<std::size_t>(o * s.inputs + i)];
      }
      y.push_back(sum);
    }
  }
  return y;
}

Values times(const Values& dy, const Values& w, const Sizes& s) {
  Values dx(static_cast<std::size_t>(s.tokens * s.inputs), 0.0);
  for (std::int64_t t = 0; t < s.tokens; ++t) {
    for (std::int64_t o = 0; o < s.outputs; ++o) {
      const double d = dy[static_cast<std::size_t>(t * s.outputs + o)];
      for (std::int64_t i = 0; i < s.inputs; ++i) {
        dx[static_cast<std::size_t>(t * s.inputs + i)] +=
            d * w[static_cast<std::size_t>(o * s.inputs + i)];
      }
    }
  }
  return dx;
}

void append(Values& all, const Values& more) { all.insert(all.end(), more.begin(), more.end()); }

}  // namespace

Values check_linear_nf4(const std::string& isa, DType dtype) {
  Values all;
  for (const Sizes& s : kSizes) {
    for (const bool nested : {false, true}) {
      KernelCase c(Op::kLinearNf4, isa);
      const auto x = c.random(dtype, {s.tokens, s.inputs}, s.inputs + 6);
      const Packed w = pack(c, s.outputs * s.inputs, dtype, nested);
      const auto bias = nested ? c.random(dtype, {s.outputs}) : KernelCase::kAbsent;
      const auto y = c.undefined(dtype, {s.tokens, s.outputs});
      Values want = times_transposed(c.values(x), w.values, s);
      for (std::size_t i = 0; nested && i < want.size(); ++i)
        want[i] += c.values(bias)[i % static_cast<std::size_t>(s.outputs)];
      c.in({x, w.packed, w.absmax, w.nested, w.offset, bias}).out({y}).run();
      expect_close(c.values(y), want, dtype, "y", 2);
      append(all, c.values(y));
    }
  }
  return all;
}

Values check_linear_nf4_input_gradient(const std::string& isa, DType dtype) {
  Values all;
  for (const Sizes& s : kSizes) {
    for (const bool nested : {false, true}) {
      KernelCase c(Op::kLinearNf4InputGradient, isa);
      const auto dy = c.random(dtype, {s.tokens, s.outputs});
      const Packed w = pack(c, s.outputs * s.inputs, dtype, nested);
      const auto dx =
          nested ? c.random(dtype, {s.tokens, s.inputs}) : c.undefined(dtype, {s.tokens, s.inputs});
      Values want = times(c.values(dy), w.values, s);
      const Values before = c.values(dx);
      for (std::size_t i = 0; nested && i < want.size(); ++i) want[i] += before[i];
      c.in({dy, w.packed, w.absmax, w.nested, w.offset}).out({dx}).accumulate(nested ? 1 : 0);
      c.run();
      expect_close(c.values(dx), want, dtype, "dx", 2);
      append(all, c.values(dx));
    }
  }
  return all;
}

}  // namespace ftplan::executor

#include "executor/ops/nf4.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/dtype.h"
#include "executor/call.h"
#include "executor/ops/packed.h"
#include "executor/ops/simd.h"
#include "executor/products.h"
#include "models/dynamic_map.h"
#include "models/nf4.h"

// This file is compiled without contraction of products and sums: scales have the bits that
// `models::dequantize_absmax` makes.

namespace ftplan::executor::FTPLAN_ISA {
namespace {

using models::kNf4Block;

// Both values of a byte.
using Pair = std::array<float, 2>;
constexpr std::array<Pair, 256> kPairs = [] {
  std::array<Pair, 256> pairs{};
  for (std::size_t byte = 0; byte < pairs.size(); ++byte)
    pairs[byte] = {models::kNf4Values[byte >> 4], models::kNf4Values[byte & 15]};
  return pairs;
}();

float scale_of(const Nf4Matrix& from, const float* map, std::int64_t block) {
  if (from.absmax != nullptr) return from.absmax[block];
  return map[from.codes[block]] * from.nested[block / models::kDynamicBlock] + from.offset;
}

void scale(float* values, std::int64_t count, float by, DType rounded_to) {
  with_type(rounded_to, [&]<class T>(T) {
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
      T rounded{};
      narrow(values[i] * by, rounded);
      values[i] = widen(rounded);
    }
  });
}

// Values [begin, begin + count) of one block.
void unpack(const std::uint8_t* packed, std::int64_t begin, std::int64_t count, float* to) {
  if (begin % 2 != 0) {
    *to++ = kPairs[packed[begin / 2]][1];
    ++begin;
    --count;
  }
  const std::uint8_t* bytes = packed + begin / 2;
  for (std::int64_t i = 0; i < count / 2; ++i)
    std::memcpy(to + 2 * i, &kPairs[bytes[i]], sizeof(Pair));
  if (count % 2 != 0) to[count - 1] = kPairs[bytes[count / 2]][0];
}

// in[1..4] of both ops.
Nf4Matrix packed_matrix(const Call& call, std::int64_t rows, std::int64_t columns) {
  Nf4Matrix packed{.packed = call.in[1].as<std::uint8_t>(),
                   .rows = rows,
                   .columns = columns,
                   .rounded_to = call.in[0].dtype()};
  if (call.in[3]) {
    packed.codes = call.in[2].as<std::uint8_t>();
    packed.nested = call.in[3].as<float>();
    packed.offset = *call.in[4].as<float>();
  } else {
    packed.absmax = call.in[2].as<float>();
  }
  return packed;
}

}  // namespace

void dequantize_block(const Nf4Matrix& from, std::int64_t row, std::int64_t rows,
                      std::int64_t column, std::int64_t columns, float* to) {
  const float* map = models::signed_dynamic_map().values.data();
  for (std::int64_t r = 0; r < rows; ++r) {
    std::int64_t at = (row + r) * from.columns + column;
    const std::int64_t end = at + columns;
    while (at < end) {
      const std::int64_t block = at / kNf4Block;
      const std::int64_t count = std::min((block + 1) * kNf4Block, end) - at;
      unpack(from.packed, at, count, to);
      scale(to, count, scale_of(from, map, block), from.rounded_to);
      to += count;
      at += count;
    }
  }
}

void linear_nf4(Call& call) {
  const View x = call.in[0];
  const View y = call.out[0];
  const Nf4Matrix w = packed_matrix(call, y.width(), x.width());
  product_packed(call, matrix(x), &w, Transposed::kYes, matrix(y), 0);
  if (call.in[5]) add_bias(y, call.in[5], call.threads);
}

void linear_nf4_input_gradient(Call& call) {
  const View dy = call.in[0];
  const View dx = call.out[0];
  const Nf4Matrix w = packed_matrix(call, dy.width(), dx.width());
  product_packed(call, matrix(dy), &w, Transposed::kNo, matrix(dx), call.accumulates(0) ? 1 : 0);
}

}  // namespace ftplan::executor::FTPLAN_ISA

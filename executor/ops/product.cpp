#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <variant>

#include "core/check.h"
#include "core/dtype.h"
#include "executor/call.h"
#include "executor/ops/packed.h"
#include "executor/ops/simd.h"
#include "executor/products.h"
#include "program/ops/linear.h"

// Note [Products of widened blocks]
//
// Without units for 16-bit products (AMX on x86) the library's bf16 products run at half the speed
// of its f32 ones, while widening a block costs a few percent of multiplying it. So each thread
// widens blocks of both factors and multiplies those in f32. Sums are f32 over the whole depth and
// are rounded once. fp16 is multiplied so on every processor: what its units add up in fp16 could
// overflow where the sum does not.
//
// A weight that is packed is multiplied in the same way, in f32 too: its values exist as one
// block a thread.

namespace ftplan::executor::FTPLAN_ISA {
namespace {

using program::ProductBlocks;

// Copies [row, row + rows) x [column, column + columns) of `from` as f32.
void widen_block(const Matrix& from, std::int64_t row, std::int64_t rows, std::int64_t column,
                 std::int64_t columns, float* to) {
  with_type(from.dtype, [&]<class T>(T) {
    for (std::int64_t r = 0; r < rows; ++r) {
      const T* source = static_cast<const T*>(from.data) + (row + r) * from.stride + column;
      float* out = to + r * columns;
#pragma omp simd
      for (std::int64_t i = 0; i < columns; ++i) out[i] = widen(source[i]);
    }
  });
}

// A block of f32 values in row-major order.
struct Block {
  const float* data;
  std::int64_t stride;
};

struct Factor {
  const Matrix& matrix;
  Transposed transposed;
  std::optional<PackedMatrix> packed{};  // set: what the values of `matrix` are made of

  // Whether its blocks are copies.
  [[nodiscard]] bool copied() const { return packed || matrix.dtype != DType::kF32; }

  // The block of op(matrix) that begins at (row, column), in the order in which the matrix is
  // stored: where it is, or in `to`.
  [[nodiscard]] Block load(std::int64_t row, std::int64_t rows, std::int64_t column,
                           std::int64_t columns, float* to) const {
    if (transposed == Transposed::kYes) {
      std::swap(row, column);
      std::swap(rows, columns);
    }
    if (packed) {
      std::visit([&](const auto* from) { dequantize_block(*from, row, rows, column, columns, to); },
                 *packed);
    } else if (copied()) {
      widen_block(matrix, row, rows, column, columns, to);
    } else {
      return {static_cast<const float*>(matrix.data) + row * matrix.stride + column, matrix.stride};
    }
    return {to, columns};
  }
};

struct BlockedProduct {
  Factor a, b;
  const Matrix& c;
  float alpha, beta;
  std::int64_t depth;
  ProductBlocks blocks;

  void block(std::int64_t row, std::int64_t column, float* work) const {
    const std::int64_t rows = std::min(blocks.rows, c.rows - row);
    const std::int64_t columns = std::min(blocks.columns, c.columns - column);
    float* left = work;
    float* right = left + (a.copied() ? blocks.rows * blocks.depth : 0);
    const bool direct = c.dtype == DType::kF32;
    float* sum = direct ? static_cast<float*>(c.data) + row * c.stride + column
                        : right + blocks.columns * blocks.depth;
    const std::int64_t stride = direct ? c.stride : columns;
    for (std::int64_t k = 0; k < depth; k += blocks.depth) {
      const std::int64_t count = std::min(blocks.depth, depth - k);
      const float before = direct ? beta : 0.0F;
      const Block x = a.load(row, rows, k, count, left);
      const Block y = b.load(k, count, column, columns, right);
      multiply_block(rows, columns, count, alpha, x.data, x.stride, a.transposed, y.data, y.stride,
                     b.transposed, k == 0 ? before : 1.0F, sum, stride);
    }
    if (!direct) store(row, rows, column, columns, sum);
  }

  void store(std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns,
             const float* sum) const {
    with_type(c.dtype, [&]<class T>(T) {
      for (std::int64_t r = 0; r < rows; ++r) {
        T* out = static_cast<T*>(c.data) + (row + r) * c.stride + column;
        const float* from = sum + r * columns;
        if (beta == 0) {
#pragma omp simd
          for (std::int64_t i = 0; i < columns; ++i) narrow(from[i], out[i]);
        } else {
#pragma omp simd
          for (std::int64_t i = 0; i < columns; ++i) narrow(beta * widen(out[i]) + from[i], out[i]);
        }
      }
    });
  }
};

void run(Call& call, const BlockedProduct& product) {
  const ProductBlocks& blocks = product.blocks;
  const Matrix& c = product.c;
  const auto work = call.scratch.take_array<float>(call.threads * blocks.floats);
  const std::int64_t across = (c.columns + blocks.columns - 1) / blocks.columns;
  const std::int64_t tasks = across * ((c.rows + blocks.rows - 1) / blocks.rows);
#pragma omp parallel num_threads(call.threads)
  {
    float* own = work.data() + thread_index() * blocks.floats;
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t task = 0; task < tasks; ++task) {
      product.block(task / across * blocks.rows, task % across * blocks.columns, own);
    }
  }
  call.scratch.give_back(work.data());
}

}  // namespace

void product(Call& call, const Matrix& a, Transposed a_transposed, const Matrix& b,
             Transposed b_transposed, const Matrix& c, double alpha, double beta) {
  if (a.dtype == DType::kF32 || (a.dtype == DType::kBf16 && call.native_bf16)) {
    multiply(a, a_transposed, b, b_transposed, c, alpha, beta);
    return;
  }
  FTPLAN_CHECK(a.dtype == b.dtype);
  const std::int64_t depth = a_transposed == Transposed::kYes ? a.rows : a.columns;
  const ProductBlocks blocks = program::product_blocks(c.rows, c.columns, depth, call.threads);
  run(call, {{a, a_transposed},
             {b, b_transposed},
             c,
             static_cast<float>(alpha),
             static_cast<float>(beta),
             depth,
             blocks});
}

void product_in_blocks(Call& call, const Matrix& a, Transposed a_transposed, const Matrix& b,
                       Transposed b_transposed, const Matrix& c, double beta,
                       const ProductBlocks& blocks) {
  if (a.dtype == DType::kF32) {
    multiply(a, a_transposed, b, b_transposed, c, 1, beta);
    return;
  }
  const std::int64_t depth = a_transposed == Transposed::kYes ? a.rows : a.columns;
  run(call,
      {{a, a_transposed}, {b, b_transposed}, c, 1.0F, static_cast<float>(beta), depth, blocks});
}

void product_packed(Call& call, const Matrix& a, PackedMatrix b, Transposed b_transposed,
                    const Matrix& c, double beta) {
  const ProductBlocks blocks =
      program::packed_blocks(c.rows, c.columns, a.columns, call.threads, a.dtype);
  const Matrix values = std::visit(
      [&](const auto* of) {
        return Matrix{.rows = of->rows, .columns = of->columns, .dtype = a.dtype};
      },
      b);
  run(call, {{a, Transposed::kNo},
             {values, b_transposed, b},
             c,
             1.0F,
             static_cast<float>(beta),
             a.columns,
             blocks});
}

}  // namespace ftplan::executor::FTPLAN_ISA

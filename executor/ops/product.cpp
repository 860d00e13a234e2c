#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/check.h"
#include "core/dtype.h"
#include "executor/ops/simd.h"
#include "executor/products.h"
#include "program/ops/linear.h"

// Note [Products of widened blocks]
//
// Without units for 16-bit products (AMX on x86) the library's bf16 products run at half the speed
// of its f32 ones, while widening a block costs a few percent of multiplying it. So each thread
// widens blocks of both factors and multiplies those in f32. Sums are f32 over the whole depth and
// are rounded once.

namespace ftplan::executor::FTPLAN_ISA {
namespace {

using program::ProductBlocks;

// Copies [row, row + rows) x [column, column + columns) of `from` as f32.
void widen_block(const Matrix& from, std::int64_t row, std::int64_t rows, std::int64_t column,
                 std::int64_t columns, float* to) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const Bf16* source = static_cast<const Bf16*>(from.data) + (row + r) * from.stride + column;
    float* out = to + r * columns;
#pragma omp simd
    for (std::int64_t i = 0; i < columns; ++i) out[i] = widen(source[i]);
  }
}

struct Factor {
  const Matrix& matrix;
  Transposed transposed;

  // The block of op(matrix) that begins at (row, column), in the order in which the matrix is
  // stored.
  void load(std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns,
            float* to) const {
    if (transposed == Transposed::kYes) {
      widen_block(matrix, column, columns, row, rows, to);
    } else {
      widen_block(matrix, row, rows, column, columns, to);
    }
  }
  [[nodiscard]] std::int64_t stride(std::int64_t rows, std::int64_t columns) const {
    return transposed == Transposed::kYes ? rows : columns;
  }
};

struct WidenedProduct {
  Factor a, b;
  const Matrix& c;
  float alpha, beta;
  std::int64_t depth;
  ProductBlocks blocks;

  void block(std::int64_t row, std::int64_t column, float* work) const {
    const std::int64_t rows = std::min(blocks.rows, c.rows - row);
    const std::int64_t columns = std::min(blocks.columns, c.columns - column);
    float* left = work;
    float* right = left + blocks.rows * blocks.depth;
    const bool direct = c.dtype == DType::kF32;
    float* sum = direct ? static_cast<float*>(c.data) + row * c.stride + column
                        : right + blocks.columns * blocks.depth;
    const std::int64_t stride = direct ? c.stride : columns;
    for (std::int64_t k = 0; k < depth; k += blocks.depth) {
      const std::int64_t count = std::min(blocks.depth, depth - k);
      const float before = direct ? beta : 0.0F;
      a.load(row, rows, k, count, left);
      b.load(k, count, column, columns, right);
      multiply_block(rows, columns, count, alpha, left, a.stride(rows, count), a.transposed, right,
                     b.stride(count, columns), b.transposed, k == 0 ? before : 1.0F, sum, stride);
    }
    if (!direct) store(row, rows, column, columns, sum);
  }

  void store(std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns,
             const float* sum) const {
    for (std::int64_t r = 0; r < rows; ++r) {
      Bf16* out = static_cast<Bf16*>(c.data) + (row + r) * c.stride + column;
      const float* from = sum + r * columns;
      if (beta == 0) {
#pragma omp simd
        for (std::int64_t i = 0; i < columns; ++i) narrow(from[i], out[i]);
      } else {
#pragma omp simd
        for (std::int64_t i = 0; i < columns; ++i) narrow(beta * widen(out[i]) + from[i], out[i]);
      }
    }
  }
};

}  // namespace

void product(Call& call, const Matrix& a, Transposed a_transposed, const Matrix& b,
             Transposed b_transposed, const Matrix& c, double alpha, double beta) {
  if (a.dtype == DType::kF32 || call.native_bf16) {
    multiply(a, a_transposed, b, b_transposed, c, alpha, beta);
    return;
  }
  FTPLAN_CHECK(a.dtype == DType::kBf16 && b.dtype == DType::kBf16);
  const std::int64_t depth = a_transposed == Transposed::kYes ? a.rows : a.columns;
  const ProductBlocks blocks = program::product_blocks(c.rows, c.columns, depth, call.threads);
  const WidenedProduct product{{a, a_transposed},
                               {b, b_transposed},
                               c,
                               static_cast<float>(alpha),
                               static_cast<float>(beta),
                               depth,
                               blocks};
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

}  // namespace ftplan::executor::FTPLAN_ISA

#pragma once

#include <cstdint>

#include "core/dtype.h"

/// Matrix products through the library's BLAS. Row-major matrices.
namespace ftplan::executor {

/// [rows, columns], `stride` elements from row to row.
struct Matrix {
  void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t stride = 0;
  DType dtype = DType::kF32;
};

enum class Transposed : bool { kNo, kYes };

/// `c = alpha * op(a) op(b) + beta * c` on all threads. a and b share a type; c has it too, or is
/// f32. Scratch for 16-bit products comes from the running op's.
/// @pre c is contiguous
void multiply(const Matrix& a, Transposed a_transposed, const Matrix& b, Transposed b_transposed,
              const Matrix& c, double alpha, double beta);

/// The same for small f32 blocks, on the calling thread.
void multiply_block(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a,
                    std::int64_t a_stride, Transposed a_transposed, const float* b,
                    std::int64_t b_stride, Transposed b_transposed, float beta, float* c,
                    std::int64_t c_stride);

}  // namespace ftplan::executor

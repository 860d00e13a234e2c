#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <c10/core/InferenceMode.h>

#include <cstdint>

#include "core/check.h"
#include "core/dtype.h"
#include "executor/products.h"

// MKL's, which the wheel's libtorch_cpu contains and exports but ships no header for.
extern "C" {
// NOLINTNEXTLINE(readability-identifier-naming)
void sgemm_(const char* ta, const char* tb, const int* m, const int* n, const int* k,
            const float* alpha, const float* a, const int* lda, const float* b, const int* ldb,
            const float* beta, float* c, const int* ldc);
void cblas_gemm_bf16bf16f32(int layout, int ta, int tb, int m, int n, int k, float alpha,
                            const void* a, int lda, const void* b, int ldb, float beta, float* c,
                            int ldc);
}

namespace ftplan::executor {
namespace {

constexpr int kRowMajor = 101;
constexpr int kNoTranspose = 111;
constexpr int kTranspose = 112;

at::Tensor view(const Matrix& m, Transposed transposed) {
  const auto type = m.dtype == DType::kF32 ? at::kFloat : at::kBFloat16;
  const at::Tensor tensor =
      at::from_blob(m.data, {m.rows, m.columns}, {m.stride, 1}, at::TensorOptions(type));
  return transposed == Transposed::kYes ? tensor.t() : tensor;
}

int blas(Transposed t) { return t == Transposed::kYes ? kTranspose : kNoTranspose; }
int narrow(std::int64_t value) {
  FTPLAN_CHECK(value <= INT32_MAX);
  return static_cast<int>(value);
}

}  // namespace

void multiply_block(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a,
                    std::int64_t a_stride, Transposed a_transposed, const float* b,
                    std::int64_t b_stride, Transposed b_transposed, float beta, float* c,
                    std::int64_t c_stride) {
  // Column-major BLAS computes the transpose: c' = op(b)' op(a)'.
  const char tb = b_transposed == Transposed::kYes ? 'T' : 'N';
  const char ta = a_transposed == Transposed::kYes ? 'T' : 'N';
  const int mi = narrow(m);
  const int ni = narrow(n);
  const int ki = narrow(k);
  const int lda = narrow(a_stride);
  const int ldb = narrow(b_stride);
  const int ldc = narrow(c_stride);
  sgemm_(&tb, &ta, &ni, &mi, &ki, &alpha, b, &ldb, a, &lda, &beta, c, &ldc);
}

void multiply(const Matrix& a, Transposed a_transposed, const Matrix& b, Transposed b_transposed,
              const Matrix& c, double alpha, double beta) {
  const std::int64_t k = a_transposed == Transposed::kYes ? a.rows : a.columns;
  if (a.dtype == DType::kF32) {
    multiply_block(c.rows, c.columns, k, static_cast<float>(alpha),
                   static_cast<const float*>(a.data), a.stride, a_transposed,
                   static_cast<const float*>(b.data), b.stride, b_transposed,
                   static_cast<float>(beta), static_cast<float*>(c.data), c.stride);
    return;
  }
  FTPLAN_CHECK(a.dtype == DType::kBf16 && b.dtype == DType::kBf16);
  if (c.dtype == DType::kF32) {
    // The only product that adds 16-bit factors to an f32 sum without rounding in between.
    cblas_gemm_bf16bf16f32(kRowMajor, blas(a_transposed), blas(b_transposed), narrow(c.rows),
                           narrow(c.columns), narrow(k), static_cast<float>(alpha), a.data,
                           narrow(a.stride), b.data, narrow(b.stride), static_cast<float>(beta),
                           static_cast<float*>(c.data), narrow(c.stride));
    return;
  }
  const c10::InferenceMode no_autograd;
  at::Tensor out = view(c, Transposed::kNo);
  const at::Tensor left = view(a, a_transposed);
  const at::Tensor right = view(b, b_transposed);
  if (alpha == 1 && beta == 0) {
    at::mm_out(out, left, right);
  } else {
    out.addmm_(left, right, beta, alpha);
  }
}

}  // namespace ftplan::executor

#pragma once

#include <omp.h>

#include <bit>
#include <cmath>
#include <cstdint>

#include "core/check.h"
#include "core/dtype.h"
#include "executor/call.h"
#include "executor/products.h"
#include "models/convert.h"
#include "program/ops/linear.h"

#ifndef FTPLAN_ISA
#error \
    "kernels are compiled once for each instruction set, with FTPLAN_ISA as the name of their namespace"
#endif

/// What kernels share. Loops are plain C++ that the compiler turns into vector code.
namespace ftplan::executor::FTPLAN_ISA {

/// Upper half of an f32.
struct Bf16 {
  std::uint16_t bits;
};

/// IEEE 754 binary16.
struct F16 {
  std::uint16_t bits;
};

inline float widen(float x) { return x; }
inline float widen(F16 x) { return models::f16_to_f32(x.bits); }
inline float widen(Bf16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

/// Rounds to nearest, ties to even; a NaN stays one.
inline void narrow(float x, Bf16& out) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t rounded = (bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16;
  const std::uint32_t nan = bits >> 16 | 0x40U;
  out.bits = static_cast<std::uint16_t>((bits & 0x7FFFFFFFU) > 0x7F800000U ? nan : rounded);
}
inline void narrow(float x, F16& out) { out.bits = models::f32_to_f16(x); }
inline void narrow(float x, float& out) { out = x; }

/// e^x within 2 units in the last place; 0 below -87.3, largest finite above 88.3.
/// @source Cephes `expf`: reduction by ln 2 in two parts, polynomial of degree 5
inline float fast_exp(float x) {
  constexpr float kLowest = -87.336545F;
  const float clamped = x < kLowest ? kLowest : (x > 88.3762626F ? 88.3762626F : x);
  const float n = std::nearbyint(clamped * 1.44269504F);
  const float r = (clamped - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const float mantissa = p * r * r + r + 1.0F;
  const auto exponent = static_cast<std::int32_t>(n) + 127;
  const float scale = std::bit_cast<float>(static_cast<std::uint32_t>(exponent) << 23);
  return x < kLowest ? 0.0F : mantissa * scale;
}

inline float sigmoid(float x) { return 1.0F / (1.0F + fast_exp(-x)); }

/// @source Cephes `tanhf`: a polynomial near 0, where the other form would cancel
inline float fast_tanh(float x) {
  const float z = x * x;
  float p = -5.70498872745e-3F;
  p = p * z + 2.06390887954e-2F;
  p = p * z - 5.37397155531e-2F;
  p = p * z + 1.33314422036e-1F;
  p = p * z - 3.33332819422e-1F;
  const float near = x + x * z * p;
  const float far = 1.0F - 2.0F / (fast_exp(2.0F * x) + 1.0F);
  return z < 0.390625F ? near : far;
}

/// Calls `f` with a value of the C++ type of `dtype`.
template <class F>
void with_type(DType dtype, F f) {
  if (dtype == DType::kF32) return f(float{});
  if (dtype == DType::kBf16) return f(Bf16{});
  FTPLAN_CHECK(dtype == DType::kF16);
  f(F16{});
}

/// Calls `f` with the types of x and w: that of x, or f32.
template <class F>
void with_types(const View& x, const View& w, const F& f) {
  with_type(x.dtype(), [&]<class T>(T t) {
    if (w.dtype() == x.dtype()) return f(t, t);
    f(t, float{});
  });
}

/// `sum` (+)= the partial sums of threads, which lie `stride` apart, in the order of threads.
inline void add_up(const float* partial, std::int64_t stride, int threads, bool accumulate,
                   const View& sum) {
  with_type(sum.dtype(), [&]<class T>(T) {
    T* to = sum.as<T>();
    for (std::int64_t i = 0; i < sum.elements(); ++i) {
      float total = accumulate ? widen(to[i]) : 0.0F;
      for (int t = 0; t < threads; ++t) total += partial[t * stride + i];
      narrow(total, to[i]);
    }
  });
}

/// Start of row `row` of a view whose rows may lie apart.
template <class T>
T* row_of(const View& view, std::int64_t row) {
  return view.as<T>() + row * view.tensor->row_stride;
}

/// Part `index` of `parts` equal ones of [0, count).
struct Part {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};
inline Part part_of(std::int64_t count, std::int64_t parts, std::int64_t index) {
  return {count * index / parts, count * (index + 1) / parts};
}

/// Of the calling thread in its parallel region.
inline int thread_index() { return omp_get_thread_num(); }

/// The matrix that a view of a program is.
inline Matrix matrix(const View& view) {
  return {view.data, view.rows(), view.width(), view.tensor->row_stride, view.dtype()};
}

/// y += bias, a row for each token.
void add_bias(const View& y, const View& bias, int threads);

/// `multiply` of products.h, in the way that suits the machine of `call`. Scratch is given back.
void product(Call& call, const Matrix& a, Transposed a_transposed, const Matrix& b,
             Transposed b_transposed, const Matrix& c, double alpha, double beta);

/// The same, in f32 for f32 and in `blocks` of widened values for 16 bits, whatever the machine
/// has: scratch depends on the blocks alone.
void product_in_blocks(Call& call, const Matrix& a, Transposed a_transposed, const Matrix& b,
                       Transposed b_transposed, const Matrix& c, double beta,
                       const program::ProductBlocks& blocks);

// One declaration for each op; `kernels.cpp` of this folder puts them into the table.
void embed(Call& call);
void embed_backward(Call& call);
void rms_norm(Call& call);
void rms_norm_apply(Call& call);
void rms_norm_backward(Call& call);
void layer_norm(Call& call);
void layer_norm_apply(Call& call);
void layer_norm_backward(Call& call);
void linear(Call& call);
void linear_accumulate(Call& call);
void linear_input_gradient(Call& call);
void linear_weight_gradient(Call& call);
void bias_gradient(Call& call);
void linear_nf4(Call& call);
void linear_nf4_input_gradient(Call& call);
void linear_int8(Call& call);
void linear_int8_input_gradient(Call& call);
void rotate(Call& call);
void route(Call& call);
void route_backward(Call& call);
void dispatch(Call& call);
void dispatch_backward(Call& call);
void expert_linear(Call& call);
void expert_input_gradient(Call& call);
void expert_weight_gradient(Call& call);
void combine(Call& call);
void combine_backward(Call& call);
void attention(Call& call);
void attention_backward(Call& call);
void gated_silu(Call& call);
void gated_silu_backward(Call& call);
void gated_gelu(Call& call);
void gated_gelu_backward(Call& call);
void gelu(Call& call);
void gelu_backward(Call& call);
void split_groups(Call& call);
void join_groups(Call& call);
void add(Call& call);
void dropout(Call& call);
void dropout_backward(Call& call);
void cast(Call& call);
void copy(Call& call);
void zero(Call& call);
void linear_cross_entropy(Call& call);
void linear_loss(Call& call);
void square_sum(Call& call);
void clip(Call& call);
void adamw(Call& call);
void adamw8bit(Call& call);
void sgd(Call& call);
void append_cache(Call& call);
void take_last(Call& call);
void next_token(Call& call);
void rope_table(Call& call);

}  // namespace ftplan::executor::FTPLAN_ISA

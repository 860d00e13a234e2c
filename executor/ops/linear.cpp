#include <cstdint>
#include <cstring>

#include "executor/call.h"
#include "executor/ops/simd.h"
#include "executor/products.h"
#include "program/attributes.h"
#include "program/step_program.h"

namespace ftplan::executor::FTPLAN_ISA {
namespace {

double scale_of(const Call& call) {
  return call.instruction.attributes == program::kNone
             ? 1.0
             : call.attributes<program::LinearAttributes>().scale;
}

}  // namespace

void add_bias(const View& y, const View& bias, int threads) {
  with_type(y.dtype(), [&]<class T>(T) {
    const T* b = bias.as<T>();
#pragma omp parallel for schedule(static) num_threads(threads)
    for (std::int64_t r = 0; r < y.rows(); ++r) {
      T* row = row_of<T>(y, r);
#pragma omp simd
      for (std::int64_t i = 0; i < y.width(); ++i) narrow(widen(row[i]) + widen(b[i]), row[i]);
    }
  });
}

void linear(Call& call) {
  product(call, matrix(call.in[0]), Transposed::kNo, matrix(call.in[1]), Transposed::kYes,
          matrix(call.out[0]), 1, 0);
  if (call.in[2]) add_bias(call.out[0], call.in[2], call.threads);
}

void linear_accumulate(Call& call) {
  product(call, matrix(call.in[0]), Transposed::kNo, matrix(call.in[1]), Transposed::kYes,
          matrix(call.update[0]), scale_of(call), 1);
}

void linear_input_gradient(Call& call) {
  product(call, matrix(call.in[0]), Transposed::kNo, matrix(call.in[1]), Transposed::kNo,
          matrix(call.out[0]), scale_of(call), call.accumulates(0) ? 1 : 0);
}

void linear_weight_gradient(Call& call) {
  product(call, matrix(call.in[0]), Transposed::kYes, matrix(call.in[1]), Transposed::kNo,
          matrix(call.out[0]), scale_of(call), call.accumulates(0) ? 1 : 0);
}

void bias_gradient(Call& call) {
  const View dy = call.in[0];
  const View db = call.out[0];
  const std::int64_t width = dy.width();
  float* partial = call.scratch.take_array<float>(call.threads * width).data();
  std::memset(partial, 0, static_cast<std::size_t>(call.threads * width) * sizeof(float));
  with_type(dy.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static, 1) num_threads(call.threads)
    for (int t = 0; t < call.threads; ++t) {
      const Part part = part_of(dy.rows(), call.threads, t);
      float* sum = partial + t * width;
      for (std::int64_t r = part.begin; r < part.end; ++r) {
        const T* row = row_of<T>(dy, r);
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) sum[i] += widen(row[i]);
      }
    }
  });
  with_type(db.dtype(), [&]<class G>(G) {
    G* out = db.as<G>();
    for (std::int64_t i = 0; i < width; ++i) {
      float total = call.accumulates(0) ? widen(out[i]) : 0.0F;
      for (int t = 0; t < call.threads; ++t) total += partial[t * width + i];
      narrow(total, out[i]);
    }
  });
}

}  // namespace ftplan::executor::FTPLAN_ISA

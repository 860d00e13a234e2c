#include <cmath>
#include <cstdint>
#include <cstring>

#include "executor/ops/simd.h"
#include "program/attributes.h"

namespace ftplan::executor::FTPLAN_ISA {
namespace {

template <class T>
float sum_of_squares(const T* x, std::int64_t width) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < width; ++i) sum += widen(x[i]) * widen(x[i]);
  return sum;
}

// Rounded once. The peer rounds the normalized value too; under autocast it keeps f32 all the way.
template <class T, class W>
void scale_row(const T* x, const W* w, float scale, std::int64_t width, T* y) {
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) narrow(widen(x[i]) * scale * widen(w[i]), y[i]);
}

template <class T, class W>
void backward_row(const T* dy, const T* x, const W* w, float scale, std::int64_t width,
                  bool accumulate, T* dx, float* dw) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (std::int64_t i = 0; i < width; ++i) dot += widen(dy[i]) * widen(w[i]) * widen(x[i]);
  if (dw != nullptr) {
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) dw[i] += widen(dy[i]) * widen(x[i]) * scale;
  }
  if (dx == nullptr) return;
  const float along = dot * scale * scale * scale / static_cast<float>(width);
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) {
    const float before = accumulate ? widen(dx[i]) : 0.0F;
    narrow(before + widen(dy[i]) * widen(w[i]) * scale - widen(x[i]) * along, dx[i]);
  }
}

// Calls with the types of x and w: that of x, or f32.
template <class F>
void with_types(const View& x, const View& w, const F& f) {
  with_type(x.dtype(), [&]<class T>(T t) {
    if (w.dtype() == x.dtype()) return f(t, t);
    f(t, float{});
  });
}

}  // namespace

void rms_norm(Call& call) {
  const View x = call.in[0];
  const View w = call.in[1];
  const View y = call.out[0];
  auto* inv_rms = call.out[1].as<float>();
  const auto epsilon = static_cast<float>(call.attributes<program::NormAttributes>().epsilon);
  with_types(x, w, [&]<class T, class W>(T, W) {
    const std::int64_t width = x.width();
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      const float mean = sum_of_squares(row_of<T>(x, r), width) / static_cast<float>(width);
      inv_rms[r] = 1.0F / std::sqrt(mean + epsilon);
      scale_row(row_of<T>(x, r), w.as<W>(), inv_rms[r], width, row_of<T>(y, r));
    }
  });
}

void rms_norm_apply(Call& call) {
  const View x = call.in[0];
  const View w = call.in[1];
  const View y = call.out[0];
  const auto* inv_rms = call.in[2].as<float>();
  with_types(x, w, [&]<class T, class W>(T, W) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      scale_row(row_of<T>(x, r), w.as<W>(), inv_rms[r], x.width(), row_of<T>(y, r));
    }
  });
}

void rms_norm_backward(Call& call) {
  const View dy = call.in[0];
  const View x = call.in[1];
  const View w = call.in[2];
  const auto* inv_rms = call.in[3].as<float>();
  const View dx = call.out[0];
  const View dw = call.out[1];
  const std::int64_t width = x.width();
  float* partial = dw ? call.scratch.take_array<float>(call.threads * width).data() : nullptr;
  if (partial != nullptr)
    std::memset(partial, 0, static_cast<std::size_t>(call.threads * width) * sizeof(float));
  with_types(x, w, [&]<class T, class W>(T, W) {
  // Each thread sums its own rows, and the sums are added in the order of threads.
#pragma omp parallel for schedule(static, 1) num_threads(call.threads)
    for (int t = 0; t < call.threads; ++t) {
      const Part part = part_of(x.rows(), call.threads, t);
      for (std::int64_t r = part.begin; r < part.end; ++r) {
        backward_row(row_of<T>(dy, r), row_of<T>(x, r), w.as<W>(), inv_rms[r], width,
                     call.accumulates(0), dx ? row_of<T>(dx, r) : nullptr,
                     partial == nullptr ? nullptr : partial + t * width);
      }
    }
  });
  if (!dw) return;
  with_type(dw.dtype(), [&]<class G>(G) {
    G* sum = dw.as<G>();
    for (std::int64_t i = 0; i < width; ++i) {
      float total = call.accumulates(1) ? widen(sum[i]) : 0.0F;
      for (int t = 0; t < call.threads; ++t) total += partial[t * width + i];
      narrow(total, sum[i]);
    }
  });
}

}  // namespace ftplan::executor::FTPLAN_ISA

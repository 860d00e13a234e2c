#include <cmath>
#include <cstdint>
#include <cstring>

#include "executor/call.h"
#include "executor/ops/simd.h"
#include "program/attributes.h"

namespace ftplan::executor::FTPLAN_ISA {
namespace {

// As they lie in the tensor of moments, a pair for each row.
struct Moments {
  float mean;
  float inv_std;
};

// In two passes, so that a large mean takes no digits of the variance.
template <class T>
Moments moments_of(const T* x, std::int64_t width, float epsilon) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < width; ++i) sum += widen(x[i]);
  const float mean = sum / static_cast<float>(width);
  float squares = 0;
#pragma omp simd reduction(+ : squares)
  for (std::int64_t i = 0; i < width; ++i) {
    const float apart = widen(x[i]) - mean;
    squares += apart * apart;
  }
  return {mean, 1.0F / std::sqrt(squares / static_cast<float>(width) + epsilon)};
}

template <class T, class W>
void apply_row(const T* x, const W* w, const W* b, const Moments& m, std::int64_t width, T* y) {
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i)
    narrow((widen(x[i]) - m.mean) * m.inv_std * widen(w[i]) + widen(b[i]), y[i]);
}

// Adds to dw and db, then writes dx, which may be dy.
template <class T, class W>
void backward_row(const T* dy, const T* x, const W* w, const Moments& m, std::int64_t width,
                  bool accumulate, T* dx, float* dw, float* db) {
  if (dw != nullptr) {
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) {
      dw[i] += widen(dy[i]) * (widen(x[i]) - m.mean) * m.inv_std;
      db[i] += widen(dy[i]);
    }
  }
  if (dx == nullptr) return;
  float sum = 0;
  float dot = 0;
#pragma omp simd reduction(+ : sum, dot)
  for (std::int64_t i = 0; i < width; ++i) {
    const float g = widen(dy[i]) * widen(w[i]);
    sum += g;
    dot += g * (widen(x[i]) - m.mean);
  }
  const float mean = sum / static_cast<float>(width);
  const float along = dot * m.inv_std * m.inv_std / static_cast<float>(width);
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) {
    const float before = accumulate ? widen(dx[i]) : 0.0F;
    const float g = widen(dy[i]) * widen(w[i]);
    narrow(before + (g - mean - (widen(x[i]) - m.mean) * along) * m.inv_std, dx[i]);
  }
}

}  // namespace

void layer_norm(Call& call) {
  const View x = call.in[0];
  const View w = call.in[1];
  const View b = call.in[2];
  const View y = call.out[0];
  auto* moments = call.out[1].as<Moments>();
  const auto epsilon = static_cast<float>(call.attributes<program::NormAttributes>().epsilon);
  with_types(x, w, [&]<class T, class W>(T, W) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      const T* from = row_of<T>(x, r);
      moments[r] = moments_of(from, x.width(), epsilon);
      apply_row(from, w.as<W>(), b.as<W>(), moments[r], x.width(), row_of<T>(y, r));
    }
  });
}

void layer_norm_apply(Call& call) {
  const View x = call.in[0];
  const View w = call.in[1];
  const View b = call.in[2];
  const View y = call.out[0];
  const auto* moments = call.in[3].as<Moments>();
  with_types(x, w, [&]<class T, class W>(T, W) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      apply_row(row_of<T>(x, r), w.as<W>(), b.as<W>(), moments[r], x.width(), row_of<T>(y, r));
    }
  });
}

void layer_norm_backward(Call& call) {
  const View dy = call.in[0];
  const View x = call.in[1];
  const View w = call.in[2];
  const auto* moments = call.in[3].as<Moments>();
  const View dx = call.out[0];
  const View dw = call.out[1];
  const View db = call.out[2];
  const std::int64_t width = x.width();
  const std::int64_t floats = 2 * call.threads * width;
  float* partial = dw || db ? call.scratch.take_array<float>(floats).data() : nullptr;
  if (partial != nullptr) std::memset(partial, 0, static_cast<std::size_t>(floats) * sizeof(float));
  with_types(x, w, [&]<class T, class W>(T, W) {
  // Each thread sums its own rows, and the sums are added in the order of threads.
#pragma omp parallel for schedule(static, 1) num_threads(call.threads)
    for (int t = 0; t < call.threads; ++t) {
      float* own = partial == nullptr ? nullptr : partial + 2 * t * width;
      const Part rows = part_of(x.rows(), call.threads, t);
      for (std::int64_t r = rows.begin; r < rows.end; ++r) {
        backward_row(row_of<T>(dy, r), row_of<T>(x, r), w.as<W>(), moments[r], width,
                     call.accumulates(0), dx ? row_of<T>(dx, r) : nullptr, own,
                     own == nullptr ? nullptr : own + width);
      }
    }
  });
  if (dw) add_up(partial, 2 * width, call.threads, call.accumulates(1), dw);
  if (db) add_up(partial + width, 2 * width, call.threads, call.accumulates(2), db);
}

}  // namespace ftplan::executor::FTPLAN_ISA

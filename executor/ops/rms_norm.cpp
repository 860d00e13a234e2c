#include <cmath>
#include <cstdint>
#include <cstring>

#include "executor/call.h"
#include "executor/ops/simd.h"
#include "program/attributes.h"

namespace ftplan::executor::FTPLAN_ISA {
namespace {

// What is normed at once is as wide as the weight: a row, or one head of it.
struct Parts {
  std::int64_t width;
  std::int64_t per_row;
  std::int64_t count;

  template <class T>
  [[nodiscard]] T* at(const View& view, std::int64_t part) const {
    return row_of<T>(view, part / per_row) + part % per_row * width;
  }
};

float offset_of(const Call& call) {
  return static_cast<float>(call.attributes<program::NormAttributes>().offset);
}

Parts parts_of(const View& x, const View& w) {
  const std::int64_t per_row = x.width() / w.elements();
  return {w.elements(), per_row, x.rows() * per_row};
}

template <class T>
float sum_of_squares(const T* x, std::int64_t width) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < width; ++i) sum += widen(x[i]) * widen(x[i]);
  return sum;
}

// Rounded once. The peer rounds the normalized value too; under autocast it keeps f32 all the way.
template <class T, class W>
void scale_row(const T* x, const W* w, float offset, float scale, std::int64_t width, T* y) {
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i)
    narrow(widen(x[i]) * scale * (offset + widen(w[i])), y[i]);
}

template <class T, class W>
void backward_row(const T* dy, const T* x, const W* w, float offset, float scale,
                  std::int64_t width, bool accumulate, T* dx, float* dw) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (std::int64_t i = 0; i < width; ++i)
    dot += widen(dy[i]) * (offset + widen(w[i])) * widen(x[i]);
  if (dw != nullptr) {
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) dw[i] += widen(dy[i]) * widen(x[i]) * scale;
  }
  if (dx == nullptr) return;
  const float along = dot * scale * scale * scale / static_cast<float>(width);
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) {
    const float before = accumulate ? widen(dx[i]) : 0.0F;
    narrow(before + widen(dy[i]) * (offset + widen(w[i])) * scale - widen(x[i]) * along, dx[i]);
  }
}

}  // namespace

void rms_norm(Call& call) {
  const View x = call.in[0];
  const View w = call.in[1];
  const View y = call.out[0];
  auto* inv_rms = call.out[1].as<float>();
  const auto epsilon = static_cast<float>(call.attributes<program::NormAttributes>().epsilon);
  const float offset = offset_of(call);
  with_types(x, w, [&]<class T, class W>(T, W) {
    const Parts parts = parts_of(x, w);
    const std::int64_t width = parts.width;
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t p = 0; p < parts.count; ++p) {
      const T* from = parts.at<T>(x, p);
      const float mean = sum_of_squares(from, width) / static_cast<float>(width);
      inv_rms[p] = 1.0F / std::sqrt(mean + epsilon);
      scale_row(from, w.as<W>(), offset, inv_rms[p], width, parts.at<T>(y, p));
    }
  });
}

void rms_norm_apply(Call& call) {
  const View x = call.in[0];
  const View w = call.in[1];
  const View y = call.out[0];
  const auto* inv_rms = call.in[2].as<float>();
  const float offset = offset_of(call);
  with_types(x, w, [&]<class T, class W>(T, W) {
    const Parts parts = parts_of(x, w);
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t p = 0; p < parts.count; ++p) {
      scale_row(parts.at<T>(x, p), w.as<W>(), offset, inv_rms[p], parts.width, parts.at<T>(y, p));
    }
  });
}

void rms_norm_backward(Call& call) {
  const View dy = call.in[0];
  const View x = call.in[1];
  const View w = call.in[2];
  const auto* inv_rms = call.in[3].as<float>();
  const float offset = offset_of(call);
  const View dx = call.out[0];
  const View dw = call.out[1];
  const Parts parts = parts_of(x, w);
  const std::int64_t width = parts.width;
  float* partial = dw ? call.scratch.take_array<float>(call.threads * width).data() : nullptr;
  if (partial != nullptr)
    std::memset(partial, 0, static_cast<std::size_t>(call.threads * width) * sizeof(float));
  with_types(x, w, [&]<class T, class W>(T, W) {
  // Each thread sums its own parts, and the sums are added in the order of threads.
#pragma omp parallel for schedule(static, 1) num_threads(call.threads)
    for (int t = 0; t < call.threads; ++t) {
      const Part own = part_of(parts.count, call.threads, t);
      for (std::int64_t p = own.begin; p < own.end; ++p) {
        backward_row(parts.at<T>(dy, p), parts.at<T>(x, p), w.as<W>(), offset, inv_rms[p], width,
                     call.accumulates(0), dx ? parts.at<T>(dx, p) : nullptr,
                     partial == nullptr ? nullptr : partial + t * width);
      }
    }
  });
  if (dw) add_up(partial, width, call.threads, call.accumulates(1), dw);
}

}  // namespace ftplan::executor::FTPLAN_ISA

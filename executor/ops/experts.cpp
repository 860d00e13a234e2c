#include "program/ops/experts.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/check.h"
#include "core/dtype.h"
#include "executor/call.h"
#include "executor/ops/simd.h"
#include "executor/products.h"

namespace ftplan::executor::FTPLAN_ISA {
namespace {

// The K most probable experts of a token, the likeliest first; those of equal logits in their
// order. A NaN is never chosen before a number.
template <class T>
void choose(const T* logits, std::int64_t experts, std::int64_t per_token, std::int32_t* chosen) {
  for (std::int64_t k = 0; k < per_token; ++k) {
    std::int32_t best = -1;
    for (std::int32_t e = 0; e < experts; ++e) {
      if (std::find(chosen, chosen + k, e) != chosen + k) continue;
      if (best < 0 || widen(logits[e]) > widen(logits[best])) best = e;
    }
    chosen[k] = best;
  }
}

// Softmax over the chosen experts: that over all of them, divided by their sum.
template <class T>
void score(const T* logits, std::int64_t per_token, const std::int32_t* chosen, float* scores) {
  const float largest = widen(logits[chosen[0]]);
  float sum = 0;
  for (std::int64_t k = 0; k < per_token; ++k) {
    scores[k] = std::exp(widen(logits[chosen[k]]) - largest);
    sum += scores[k];
  }
  for (std::int64_t k = 0; k < per_token; ++k) scores[k] /= sum;
}

// Turns each chosen expert into the row that its token has there, in the order of tokens.
void sort_rows(std::int32_t* chosen, std::int64_t count, std::int32_t* ends, std::int64_t experts) {
  std::fill(ends, ends + experts, 0);
  for (std::int64_t i = 0; i < count; ++i) ++ends[chosen[i]];
  std::int32_t begin = 0;
  for (std::int64_t e = 0; e < experts; ++e) {
    const std::int32_t rows = ends[e];
    ends[e] = begin;
    begin += rows;
  }
  for (std::int64_t i = 0; i < count; ++i) chosen[i] = ends[chosen[i]]++;
}

std::int32_t expert_of(std::int32_t row, const View& ends) {
  const auto* first = ends.as<std::int32_t>();
  return static_cast<std::int32_t>(std::upper_bound(first, first + ends.elements(), row) - first);
}

// Rows [begin, end) of a contiguous view.
Matrix rows_of(const View& view, std::int64_t begin, std::int64_t end) {
  Matrix part = matrix(view);
  const std::int64_t width = size_of(part.dtype).value;
  part.data = static_cast<std::byte*>(part.data) + begin * part.stride * width;
  part.rows = end - begin;
  return part;
}

// The matrix of one expert, [out, in].
Matrix weight_of(const View& weights, std::int64_t expert, std::int64_t out, std::int64_t in) {
  Matrix w = rows_of(weights, expert, expert + 1);
  return {w.data, out, in, in, w.dtype};
}

// Calls `f(expert, begin, end)` for each expert's slice of rows.
template <class F>
void each_expert(const View& ends, const F& f) {
  const auto* end = ends.as<std::int32_t>();
  for (std::int64_t e = 0; e < ends.elements(); ++e) f(e, e == 0 ? 0 : end[e - 1], end[e]);
}

}  // namespace

void route(Call& call) {
  const View logits = call.in[0];
  auto* scores = call.out[0].as<float>();
  auto* rows = call.out[1].as<std::int32_t>();
  const View ends = call.out[2];
  const std::int64_t per_token = call.out[0].width();
  with_type(logits.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t t = 0; t < logits.rows(); ++t) {
      const T* row = row_of<T>(logits, t);
      std::int32_t* chosen = rows + t * per_token;
      choose(row, logits.width(), per_token, chosen);
      score(row, per_token, chosen, scores + t * per_token);
    }
  });
  sort_rows(rows, call.out[1].elements(), ends.as<std::int32_t>(), ends.elements());
}

void route_backward(Call& call) {
  const auto* dscores = call.in[0].as<float>();
  const auto* scores = call.in[1].as<float>();
  const auto* rows = call.in[2].as<std::int32_t>();
  const View ends = call.in[3];
  const View dlogits = call.out[0];
  const std::int64_t per_token = call.in[0].width();
  FTPLAN_CHECK(!call.accumulates(0));
  with_type(dlogits.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t t = 0; t < dlogits.rows(); ++t) {
      T* out = row_of<T>(dlogits, t);
      for (std::int64_t e = 0; e < dlogits.width(); ++e) narrow(0.0F, out[e]);
      const std::int64_t first = t * per_token;
      float mean = 0;
      for (std::int64_t i = first; i < first + per_token; ++i) mean += scores[i] * dscores[i];
      for (std::int64_t i = first; i < first + per_token; ++i)
        narrow(scores[i] * (dscores[i] - mean), out[expert_of(rows[i], ends)]);
    }
  });
}

void dispatch(Call& call) {
  const View x = call.in[0];
  const auto* rows = call.in[1].as<std::int32_t>();
  const std::int64_t per_token = call.in[1].width();
  const View sent = call.out[0];
  const auto bytes = static_cast<std::size_t>((x.width() * size_of(x.dtype())).value);
  with_type(x.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      for (std::int64_t k = 0; k < per_token; ++k)
        std::memcpy(row_of<T>(sent, rows[t * per_token + k]), row_of<T>(x, t), bytes);
    }
  });
}

void dispatch_backward(Call& call) {
  const View dsent = call.in[0];
  const auto* rows = call.in[1].as<std::int32_t>();
  const std::int64_t per_token = call.in[1].width();
  const View dx = call.out[0];
  const bool adds = call.accumulates(0);
  with_type(dx.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t t = 0; t < dx.rows(); ++t) {
      T* out = row_of<T>(dx, t);
      for (std::int64_t i = 0; i < dx.width(); ++i) {
        float sum = adds ? widen(out[i]) : 0.0F;
        for (std::int64_t k = 0; k < per_token; ++k)
          sum += widen(row_of<T>(dsent, rows[t * per_token + k])[i]);
        narrow(sum, out[i]);
      }
    }
  });
}

void expert_linear(Call& call) {
  const View x = call.in[0];
  const View y = call.out[0];
  const auto blocks = program::expert_blocks(*x.tensor, *y.tensor, call.threads);
  each_expert(call.in[2], [&](std::int64_t e, std::int64_t begin, std::int64_t end) {
    if (begin == end) return;
    product_in_blocks(call, rows_of(x, begin, end), Transposed::kNo,
                      weight_of(call.in[1], e, y.width(), x.width()), Transposed::kYes,
                      rows_of(y, begin, end), 0, blocks);
  });
}

void expert_input_gradient(Call& call) {
  const View dy = call.in[0];
  const View dx = call.out[0];
  const auto blocks = program::expert_blocks(*dy.tensor, *dx.tensor, call.threads);
  const double beta = call.accumulates(0) ? 1 : 0;
  each_expert(call.in[2], [&](std::int64_t e, std::int64_t begin, std::int64_t end) {
    if (begin == end) return;
    product_in_blocks(call, rows_of(dy, begin, end), Transposed::kNo,
                      weight_of(call.in[1], e, dy.width(), dx.width()), Transposed::kNo,
                      rows_of(dx, begin, end), beta, blocks);
  });
}

void expert_weight_gradient(Call& call) {
  const View dy = call.in[0];
  const View x = call.in[1];
  const View dw = call.out[0];
  const auto blocks = program::expert_gradient_blocks(*dy.tensor, *x.tensor, call.threads);
  const bool adds = call.accumulates(0);
  each_expert(call.in[2], [&](std::int64_t e, std::int64_t begin, std::int64_t end) {
    const Matrix w = weight_of(dw, e, dy.width(), x.width());
    if (begin < end) {
      product_in_blocks(call, rows_of(dy, begin, end), Transposed::kYes, rows_of(x, begin, end),
                        Transposed::kNo, w, adds ? 1 : 0, blocks);
    } else if (!adds) {
      std::memset(w.data, 0,
                  static_cast<std::size_t>((w.rows * w.columns * size_of(w.dtype)).value));
    }
  });
}

void combine(Call& call) {
  const View y = call.in[0];
  const auto* scores = call.in[1].as<float>();
  const auto* rows = call.in[2].as<std::int32_t>();
  const std::int64_t per_token = call.in[2].width();
  const View x = call.out[0];
  with_type(x.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      T* out = row_of<T>(x, t);
      for (std::int64_t i = 0; i < x.width(); ++i) {
        float sum = 0;
        for (std::int64_t at = t * per_token; at < (t + 1) * per_token; ++at)
          sum += scores[at] * widen(row_of<T>(y, rows[at])[i]);
        narrow(sum, out[i]);
      }
    }
  });
}

void combine_backward(Call& call) {
  const View dx = call.in[0];
  const auto* scores = call.in[1].as<float>();
  const auto* rows = call.in[2].as<std::int32_t>();
  const std::int64_t per_token = call.in[2].width();
  const View y = call.update[0];
  auto* dscores = call.out[0] ? call.out[0].as<float>() : nullptr;
  FTPLAN_CHECK(!call.accumulates(0));
  with_type(y.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t t = 0; t < dx.rows(); ++t) {
      const T* gradient = row_of<T>(dx, t);
      for (std::int64_t at = t * per_token; at < (t + 1) * per_token; ++at) {
        T* row = row_of<T>(y, rows[at]);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (std::int64_t i = 0; i < y.width(); ++i) {
          const float d = widen(gradient[i]);
          sum += d * widen(row[i]);
          narrow(scores[at] * d, row[i]);
        }
        if (dscores != nullptr) dscores[at] = sum;
      }
    }
  });
}

}  // namespace ftplan::executor::FTPLAN_ISA

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "executor/call.h"
#include "executor/ops/simd.h"
#include "executor/products.h"
#include "program/attributes.h"
#include "program/step_program.h"

namespace ftplan::executor::FTPLAN_ISA {
namespace {

constexpr std::int32_t kNoTarget = -100;

Matrix rows_of(const View& view, std::int64_t begin, std::int64_t count) {
  const std::int64_t stride = view.tensor->row_stride;
  return {view.data + begin * stride * size_of(view.dtype()).value, count, view.width(), stride,
          view.dtype()};
}

// Soft cap of a row: cap * tanh(x / cap).
template <class T>
void cap_row(T* logits, std::int64_t width, float cap) {
  const float inverse = 1.0F / cap;
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i)
    narrow(cap * fast_tanh(widen(logits[i]) * inverse), logits[i]);
}

// Cross-entropy of one row; with `scale` its logits become their gradient, scale * (softmax -
// target) times the slope of the cap, which is 1 - (logit / cap)^2.
template <class T>
double row_loss(T* logits, std::int64_t width, std::int32_t target, const float* scale, float cap) {
  if (cap > 0) cap_row(logits, width, cap);
  float most = widen(logits[0]);
#pragma omp simd reduction(max : most)
  for (std::int64_t i = 0; i < width; ++i) {
    const float x = widen(logits[i]);
    most = most < x ? x : most;
  }
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < width; ++i) sum += fast_exp(widen(logits[i]) - most);
  const double loss = std::log(static_cast<double>(sum)) + most - widen(logits[target]);
  if (scale == nullptr) return loss;
  const float factor = *scale / sum;
  const float at_target = widen(logits[target]);
  const float inverse = cap > 0 ? 1.0F / cap : 0.0F;
  const auto slope = [inverse](float x) { return 1.0F - (x * inverse) * (x * inverse); };
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) {
    const float x = widen(logits[i]);
    narrow(fast_exp(x - most) * factor * slope(x), logits[i]);
  }
  narrow((fast_exp(at_target - most) * factor - *scale) * slope(at_target), logits[target]);
  return loss;
}

// Losses of a chunk, added in the order of tokens.
void chunk_loss(Call& call, const View& logits, const std::int32_t* targets, std::int64_t count,
                const float* scale, double& total) {
  const auto& attributes = call.attributes<program::LossAttributes>();
  const auto losses = call.scratch.take_array<double>(attributes.chunk);
  const auto cap = static_cast<float>(attributes.cap);
  with_type(logits.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t r = 0; r < count; ++r) {
      T* row = row_of<T>(logits, r);
      if (targets[r] == kNoTarget) {
        losses[static_cast<std::size_t>(r)] = 0;
        if (scale != nullptr) std::fill(row, row + logits.width(), T{});
      } else {
        losses[static_cast<std::size_t>(r)] = row_loss(row, logits.width(), targets[r], scale, cap);
      }
    }
  });
  for (std::int64_t r = 0; r < count; ++r) total += losses[static_cast<std::size_t>(r)];
  call.scratch.give_back(losses.data());
}

Matrix all_of(const View& view) { return rows_of(view, 0, view.rows()); }

// The head's adapter: what it adds to a chunk of logits is scale * inner * b^T.
float adapter_scale(const Call& call) {
  return static_cast<float>(call.attributes<program::LossAttributes>().adapter_scale);
}

struct HeadAdapter {
  View b, inner;
  float scale = 0;

  void add_to(Call& call, const Matrix& logits, std::int64_t begin) const {
    if (!b) return;
    product(call, rows_of(inner, begin, logits.rows), Transposed::kNo, all_of(b), Transposed::kYes,
            logits, scale, 1);
  }
};

}  // namespace

void linear_cross_entropy(Call& call) {
  const View w = call.in[0];
  const auto* targets = call.in[1].as<std::int32_t>();
  const View logits = call.out[0];
  const View dw = call.out[1];
  const View db = call.out[2];
  const View h = call.update[0];
  const HeadAdapter adapter{call.in[2], call.update[2], adapter_scale(call)};
  double& total = *call.update[1].as<double>();
  const std::int64_t chunk = call.attributes<program::LossAttributes>().chunk;
  const auto scale = static_cast<float>(call.scalar(program::Scalar::kLossScale) /
                                        call.scalar(program::Scalar::kTargetTokens));
  for (std::int64_t begin = 0; begin < h.rows(); begin += chunk) {
    const std::int64_t count = std::min(chunk, h.rows() - begin);
    const Matrix tokens = rows_of(h, begin, count);
    const Matrix scores = rows_of(logits, 0, count);
    product(call, tokens, Transposed::kNo, all_of(w), Transposed::kYes, scores, 1, 0);
    adapter.add_to(call, scores, begin);
    chunk_loss(call, logits, targets + begin, count, &scale, total);
    const auto adds = [&](int out) { return call.accumulates(out) || begin > 0 ? 1.0F : 0.0F; };
    if (dw) {
      product(call, scores, Transposed::kYes, tokens, Transposed::kNo, all_of(dw), 1, adds(1));
    }
    if (adapter.b) {
      const Matrix inner = rows_of(adapter.inner, begin, count);
      if (db) {
        product(call, scores, Transposed::kYes, inner, Transposed::kNo, all_of(db), adapter.scale,
                adds(2));
      }
      product(call, scores, Transposed::kNo, all_of(adapter.b), Transposed::kNo, inner,
              adapter.scale, 0);
    }
    product(call, scores, Transposed::kNo, all_of(w), Transposed::kNo, tokens, 1, 0);
  }
}

void linear_loss(Call& call) {
  const View h = call.in[0];
  const auto* targets = call.in[2].as<std::int32_t>();
  const View logits = call.out[0];
  const HeadAdapter adapter{call.in[3], call.in[4], adapter_scale(call)};
  const std::int64_t chunk = call.attributes<program::LossAttributes>().chunk;
  for (std::int64_t begin = 0; begin < h.rows(); begin += chunk) {
    const std::int64_t count = std::min(chunk, h.rows() - begin);
    const Matrix scores = rows_of(logits, 0, count);
    product(call, rows_of(h, begin, count), Transposed::kNo, all_of(call.in[1]), Transposed::kYes,
            scores, 1, 0);
    adapter.add_to(call, scores, begin);
    chunk_loss(call, logits, targets + begin, count, nullptr, *call.update[0].as<double>());
  }
}

}  // namespace ftplan::executor::FTPLAN_ISA

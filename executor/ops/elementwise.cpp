#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/check.h"
#include "core/dtype.h"
#include "executor/call.h"
#include "executor/ops/simd.h"

namespace ftplan::executor::FTPLAN_ISA {
namespace {

template <class From, class To>
void convert(const From* from, To* to, std::int64_t count, bool accumulate, int threads) {
#pragma omp parallel for simd schedule(static) num_threads(threads)
  for (std::int64_t i = 0; i < count; ++i) {
    const float before = accumulate ? widen(to[i]) : 0.0F;
    narrow(before + widen(from[i]), to[i]);
  }
}

}  // namespace

void cast(Call& call) {
  const View x = call.in[0];
  const View y = call.out[0];
  FTPLAN_CHECK(x.tensor->contiguous() && y.tensor->contiguous());
  with_type(x.dtype(), [&]<class From>(From) {
    with_type(y.dtype(), [&]<class To>(To) {
      convert(x.as<From>(), y.as<To>(), y.elements(), call.accumulates(0), call.threads);
    });
  });
}

void copy(Call& call) {
  const View& x = call.in[0];
  // Packed values are bytes.
  if (x.dtype() != DType::kU8) return cast(call);
  FTPLAN_CHECK(x.tensor->contiguous() && call.out[0].tensor->contiguous());
  std::memcpy(call.out[0].data, x.data, static_cast<std::size_t>(x.elements()));
}

void zero(Call& call) {
  const View y = call.out[0];
  FTPLAN_CHECK(y.tensor->contiguous());
  std::memset(y.data, 0, static_cast<std::size_t>(y.elements() * size_of(y.dtype()).value));
}

void add(Call& call) {
  const View x = call.in[0];
  const View y = call.update[0];
  FTPLAN_CHECK(x.tensor->contiguous() && y.tensor->contiguous());
  with_type(x.dtype(),
            [&]<class T>(T) { convert(x.as<T>(), y.as<T>(), y.elements(), true, call.threads); });
}

namespace {

struct Silu {
  static float value(float x) { return x * sigmoid(x); }
  static float slope(float x) {
    const float s = sigmoid(x);
    return s * (1.0F + x * (1.0F - s));
  }
};

// 0.5 * (1 + tanh(t)) is sigmoid(2 * t), with t = sqrt(2 / pi) * (x + 0.044715 * x^3).
struct Gelu {
  static constexpr float kTwice = 1.5957691216057308F;
  static constexpr float kCubic = 0.044715F;
  static float gate(float x) { return sigmoid(kTwice * (x + kCubic * x * x * x)); }
  static float value(float x) { return x * gate(x); }
  static float slope(float x) {
    const float s = gate(x);
    return s + x * s * (1.0F - s) * kTwice * (1.0F + 3.0F * kCubic * x * x);
  }
};

// x * Phi(x) and its slope Phi(x) + x * phi(x), by one exponential. Phi within 1e-7.
// @source Abramowitz and Stegun 1964, formula 7.1.26
struct ExactGelu {
  static constexpr float kInverseRoot2 = 0.70710678118F;
  static constexpr float kDensity = 0.39894228040F;  // 1 / sqrt(2 pi)
  static float bell(float x) { return fast_exp(-0.5F * x * x); }
  static float cumulative(float x, float bell) {
    const float t = 1.0F / (1.0F + 0.3275911F * kInverseRoot2 * std::fabs(x));
    float p = 1.061405429F;
    p = p * t - 1.453152027F;
    p = p * t + 1.421413741F;
    p = p * t - 0.284496736F;
    p = p * t + 0.254829592F;
    const float tail = 0.5F * p * t * bell;
    return x < 0 ? tail : 1.0F - tail;
  }
};

template <class Activation>
void gated(Call& call) {
  const View g = call.in[0];
  const View u = call.in[1];
  const View a = call.out[0];
  with_type(g.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t r = 0; r < g.rows(); ++r) {
      const T* gate = row_of<T>(g, r);
      const T* up = row_of<T>(u, r);
      T* out = row_of<T>(a, r);
#pragma omp simd
      for (std::int64_t i = 0; i < g.width(); ++i) {
        narrow(Activation::value(widen(gate[i])) * widen(up[i]), out[i]);
      }
    }
  });
}

template <class Activation>
void gated_backward(Call& call) {
  const View da = call.update[0];
  const View g = call.update[1];
  const View u = call.update[2];
  with_type(g.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t r = 0; r < g.rows(); ++r) {
      T* grad = row_of<T>(da, r);
      T* gate = row_of<T>(g, r);
      T* up = row_of<T>(u, r);
#pragma omp simd
      for (std::int64_t i = 0; i < g.width(); ++i) {
        const float x = widen(gate[i]);
        const float y = widen(up[i]);
        const float d = widen(grad[i]);
        const float value = Activation::value(x);
        narrow(value * y, grad[i]);
        narrow(d * y * Activation::slope(x), gate[i]);
        narrow(d * value, up[i]);
      }
    }
  });
}

}  // namespace

void gated_silu(Call& call) { gated<Silu>(call); }
void gated_silu_backward(Call& call) { gated_backward<Silu>(call); }
void gated_gelu(Call& call) { gated<Gelu>(call); }
void gated_gelu_backward(Call& call) { gated_backward<Gelu>(call); }

void gelu(Call& call) {
  const View x = call.in[0];
  const View a = call.out[0];
  with_type(x.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      const T* from = row_of<T>(x, r);
      T* to = row_of<T>(a, r);
#pragma omp simd
      for (std::int64_t i = 0; i < x.width(); ++i) {
        const float value = widen(from[i]);
        narrow(value * ExactGelu::cumulative(value, ExactGelu::bell(value)), to[i]);
      }
    }
  });
}

void gelu_backward(Call& call) {
  const View da = call.update[0];
  const View x = call.update[1];
  with_type(x.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      T* grad = row_of<T>(da, r);
      T* from = row_of<T>(x, r);
#pragma omp simd
      for (std::int64_t i = 0; i < x.width(); ++i) {
        const float value = widen(from[i]);
        const float bell = ExactGelu::bell(value);
        const float share = ExactGelu::cumulative(value, bell);
        narrow(widen(grad[i]) * (share + value * bell * ExactGelu::kDensity), from[i]);
        narrow(value * share, grad[i]);
      }
    }
  });
}

}  // namespace ftplan::executor::FTPLAN_ISA

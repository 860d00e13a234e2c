#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "executor/call.h"
#include "executor/ops/simd.h"
#include "models/dynamic_map.h"
#include "program/attributes.h"
#include "program/ops/checks.h"
#include "program/step_program.h"

namespace ftplan::executor::FTPLAN_ISA {
namespace {

struct Update {
  float rate, decay, beta1, beta2, epsilon, correction1, root_correction2, coefficient;
};

Update update_of(const Call& call) {
  const auto& a = call.attributes<program::AdamwAttributes>();
  return {static_cast<float>(call.scalar(program::Scalar::kLearningRate)),
          static_cast<float>(a.weight_decay),
          static_cast<float>(a.beta1),
          static_cast<float>(a.beta2),
          static_cast<float>(a.epsilon),
          static_cast<float>(call.scalar(program::Scalar::kBiasCorrection1)),
          static_cast<float>(std::sqrt(call.scalar(program::Scalar::kBiasCorrection2))),
          *call.in[1].as<float>()};
}

// `value` is the f32 value of the weight: the weight itself or its master.
template <class G>
void update_run(const Update& u, const G* g, float* value, float* m, float* v, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    const float gradient = widen(g[i]) * u.coefficient;
    m[i] += (1.0F - u.beta1) * (gradient - m[i]);
    v[i] = u.beta2 * v[i] + (1.0F - u.beta2) * gradient * gradient;
    const float denominator = std::sqrt(v[i]) / u.root_correction2 + u.epsilon;
    value[i] = value[i] * (1.0F - u.rate * u.decay) - u.rate / u.correction1 * m[i] / denominator;
  }
}

// Calls `update(gradients, values, begin, end)` for runs of elements. Values are the weights, or
// their masters, which are then rounded to the weights.
template <class F>
void update_weights(const Call& call, const View& master, F update) {
  const View w = call.update[0];
  float* value = master ? master.as<float>() : w.as<float>();
  constexpr std::int64_t kRun = 4096;  // whole blocks of 8-bit states
  const std::int64_t count = w.elements();
  with_type(call.in[0].dtype(), [&]<class G>(G) {
    const G* g = call.in[0].as<G>();
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t begin = 0; begin < count; begin += kRun) {
      const std::int64_t end = std::min(count, begin + kRun);
      update(g, value, begin, end);
      if (!master) continue;
      with_type(w.dtype(), [&]<class W>(W) {
        W* rounded = w.as<W>();
#pragma omp simd
        for (std::int64_t i = begin; i < end; ++i) narrow(value[i], rounded[i]);
      });
    }
  });
}

}  // namespace

void square_sum(Call& call) {
  const View g = call.in[0];
  constexpr std::int64_t kChunk = program::kReductionChunk;
  const std::int64_t chunks = (g.elements() + kChunk - 1) / kChunk;
  const auto sums = call.scratch.take_array<double>(chunks);
  with_type(g.dtype(), [&]<class T>(T) {
    const T* values = g.as<T>();
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t c = 0; c < chunks; ++c) {
      const std::int64_t end = std::min(g.elements(), (c + 1) * kChunk);
      double sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t i = c * kChunk; i < end; ++i) {
        const double x = widen(values[i]);
        sum += x * x;
      }
      sums[static_cast<std::size_t>(c)] = sum;
    }
  });
  for (const double sum : sums) *call.update[0].as<double>() += sum;
}

void clip(Call& call) {
  const double limit = call.attributes<program::ClipAttributes>().limit;
  const double scale = call.scalar(program::Scalar::kLossScale);
  const double norm = std::sqrt(*call.in[0].as<double>()) / scale;
  const bool finite = std::isfinite(norm);
  call.scalars[static_cast<std::size_t>(program::Scalar::kGradientsFinite)] = finite ? 1 : 0;
  // As torch.nn.utils.clip_grad_norm_.
  const double coefficient = limit > 0 ? std::min(1.0, limit / (norm + 1e-6)) : 1.0;
  *call.out[0].as<float>() = finite ? static_cast<float>(coefficient / scale) : 0.0F;
}

void adamw(Call& call) {
  const Update u = update_of(call);
  float* m = call.update[1].as<float>();
  float* v = call.update[2].as<float>();
  update_weights(call, call.update[3],
                 [&](const auto* g, float* value, std::int64_t begin, std::int64_t end) {
                   update_run(u, g + begin, value + begin, m + begin, v + begin, end - begin);
                 });
}

void adamw8bit(Call& call) {
  const Update u = update_of(call);
  const models::DynamicMap& map1 = models::signed_dynamic_map();
  const models::DynamicMap& map2 = models::unsigned_dynamic_map();
  const std::int64_t padding = call.attributes<program::AdamwAttributes>().padding;
  const std::int64_t count = call.update[0].elements() - padding;
  update_weights(
      call, call.update[5], [&](const auto* g, float* value, std::int64_t begin, std::int64_t end) {
        std::array<float, models::kDynamicBlock> m_of_block{};
        std::array<float, models::kDynamicBlock> v_of_block{};
        for (std::int64_t at = begin; at < std::min(end, count); at += models::kDynamicBlock) {
          const auto size = static_cast<std::size_t>(std::min(models::kDynamicBlock, count - at));
          const std::span m(m_of_block.data(), size);
          const std::span v(v_of_block.data(), size);
          const std::span codes1(call.update[1].as<std::uint8_t>() + at, size);
          const std::span codes2(call.update[2].as<std::uint8_t>() + at, size);
          float& scale1 = call.update[3].as<float>()[at / models::kDynamicBlock];
          float& scale2 = call.update[4].as<float>()[at / models::kDynamicBlock];
          models::dequantize_block(codes1, scale1, map1, m);
          models::dequantize_block(codes2, scale2, map2, v);
          update_run(u, g + at, value + at, m.data(), v.data(), static_cast<std::int64_t>(size));
          scale1 = models::quantize_block(m, map1, codes1);
          scale2 = models::quantize_block(v, map2, codes2);
        }
      });
}

void sgd(Call& call) {
  const auto& a = call.attributes<program::SgdAttributes>();
  const auto rate = static_cast<float>(call.scalar(program::Scalar::kLearningRate));
  const auto decay = static_cast<float>(a.weight_decay);
  const auto momentum = static_cast<float>(a.momentum);
  const float coefficient = *call.in[1].as<float>();
  float* m = a.momentum > 0 ? call.update[1].as<float>() : nullptr;
  update_weights(call, call.update[m == nullptr ? 1 : 2],
                 [&](const auto* g, float* value, std::int64_t begin, std::int64_t end) {
#pragma omp simd
                   for (std::int64_t i = begin; i < end; ++i) {
                     float change = widen(g[i]) * coefficient + decay * value[i];
                     if (m != nullptr) change = m[i] = momentum * m[i] + change;
                     value[i] -= rate * change;
                   }
                 });
}

}  // namespace ftplan::executor::FTPLAN_ISA

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "executor/call.h"
#include "executor/ops/simd.h"
#include "program/attributes.h"
#include "program/step_program.h"

namespace ftplan::executor::FTPLAN_ISA {
namespace {

// Rounded to the type of the table, as the peer's.
template <class T>
float scale_of(const Call& call) {
  if (call.instruction.attributes == program::kNone) return 1;
  T rounded;
  narrow(static_cast<float>(call.attributes<program::EmbedAttributes>().scale), rounded);
  return widen(rounded);
}

// Sums the gradients of every token with each id of [part.begin, part.end), in the order of tokens,
// rounding once.
template <class T, class G>
void sum_rows(const View& dx, const std::int32_t* ids, const std::int32_t* order, const View& table,
              Part part, bool accumulate, float scale, float* sum) {
  const std::int64_t width = table.width();
  const std::int64_t tokens = dx.rows();
  const auto* at =
      std::lower_bound(order, order + tokens, part.begin,
                       [&](std::int32_t token, std::int64_t id) { return ids[token] < id; });
  for (std::int64_t id = part.begin; id < part.end; ++id) {
    G* out = row_of<G>(table, id);
    const bool used = at != order + tokens && ids[*at] == id;
    if (!used) {
      if (!accumulate) std::memset(out, 0, static_cast<std::size_t>(width) * sizeof(G));
      continue;
    }
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) sum[i] = accumulate ? widen(out[i]) : 0.0F;
    for (; at != order + tokens && ids[*at] == id; ++at) {
      const T* row = row_of<T>(dx, *at);
#pragma omp simd
      for (std::int64_t i = 0; i < width; ++i) sum[i] += scale * widen(row[i]);
    }
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) narrow(sum[i], out[i]);
  }
}

}  // namespace

void embed(Call& call) {
  const auto* ids = call.in[0].as<std::int32_t>();
  const View table = call.in[1];
  const View x = call.out[0];
  with_types(x, table, [&]<class T, class W>(T, W) {
    const float scale = scale_of<W>(call);
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      const W* from = row_of<W>(table, ids[t]);
      T* to = row_of<T>(x, t);
#pragma omp simd
      for (std::int64_t i = 0; i < table.width(); ++i) narrow(scale * widen(from[i]), to[i]);
    }
  });
}

void embed_backward(Call& call) {
  const View dx = call.in[0];
  const auto* ids = call.in[1].as<std::int32_t>();
  const auto* order = call.in[2].as<std::int32_t>();
  const View table = call.out[0];
  float* sums = call.scratch.take_array<float>(call.threads * table.width()).data();
  with_type(dx.dtype(), [&]<class T>(T) {
    with_type(table.dtype(), [&]<class G>(G) {
#pragma omp parallel for schedule(static, 1) num_threads(call.threads)
      for (int t = 0; t < call.threads; ++t) {
        sum_rows<T, G>(dx, ids, order, table, part_of(table.rows(), call.threads, t),
                       call.accumulates(0), scale_of<T>(call), sums + t * table.width());
      }
    });
  });
}

}  // namespace ftplan::executor::FTPLAN_ISA

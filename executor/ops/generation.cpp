#include <cstdint>
#include <cstring>

#include "core/dtype.h"
#include "executor/ops/simd.h"
#include "program/attributes.h"
#include "program/step_program.h"

namespace ftplan::executor::FTPLAN_ISA {

void append_cache(Call& call) {
  const auto& a = call.attributes<program::AttentionAttributes>();
  const View values = call.in[0];
  const View cache = call.update[0];
  const auto length = static_cast<std::int64_t>(call.scalar(program::Scalar::kCacheLength));
  const std::int64_t row_bytes = values.width() * size_of(values.dtype()).value;
  with_type(values.dtype(), [&]<class T>(T) {
    for (std::int64_t row = 0; row < a.rows; ++row) {
      for (std::int64_t token = 0; token < a.sequence; ++token) {
        std::memcpy(row_of<T>(cache, row * a.cache + length + token),
                    row_of<T>(values, row * a.sequence + token),
                    static_cast<std::size_t>(row_bytes));
      }
    }
  });
}

void take_last(Call& call) {
  const auto& a = call.attributes<program::AttentionAttributes>();
  const View h = call.in[0];
  const std::int64_t row_bytes = h.width() * size_of(h.dtype()).value;
  for (std::int64_t row = 0; row < a.rows; ++row) {
    std::memcpy(call.out[0].data + row * row_bytes,
                h.data + ((row + 1) * a.sequence - 1) * row_bytes,
                static_cast<std::size_t>(row_bytes));
  }
}

void argmax(Call& call) {
  const View logits = call.in[0];
  with_type(logits.dtype(), [&]<class T>(T) {
    for (std::int64_t r = 0; r < logits.rows(); ++r) {
      const T* row = row_of<T>(logits, r);
      std::int64_t best = 0;
      for (std::int64_t i = 1; i < logits.width(); ++i) {
        if (widen(row[i]) > widen(row[best])) best = i;
      }
      call.out[0].as<std::int32_t>()[r] = static_cast<std::int32_t>(best);
    }
  });
}

}  // namespace ftplan::executor::FTPLAN_ISA

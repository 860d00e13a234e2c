#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/check.h"
#include "executor/call.h"
#include "executor/ops/simd.h"
#include "program/attributes.h"

namespace ftplan::executor::FTPLAN_ISA {
namespace {

// Calls `copy(columns of the whole, columns of a part, bytes)` for each part of each group.
template <class F>
void for_each_share(const Call& call, const View& whole, const View* parts, int count,
                    const F& copy) {
  const std::int64_t groups = call.attributes<program::GroupAttributes>().groups;
  with_type(whole.dtype(), [&]<class T>(T) {
#pragma omp parallel for schedule(static) num_threads(call.threads)
    for (std::int64_t row = 0; row < whole.rows(); ++row) {
      T* at = row_of<T>(whole, row);
      for (std::int64_t group = 0; group < groups; ++group) {
        for (int i = 0; i < count; ++i) {
          const std::int64_t share = parts[i].width() / groups;
          copy(at, row_of<T>(parts[i], row) + group * share,
               static_cast<std::size_t>(share) * sizeof(T));
          at += share;
        }
      }
    }
  });
}

}  // namespace

void split_groups(Call& call) {
  for_each_share(
      call, call.in[0], call.out.data(), call.instruction.out.size(),
      [](const void* whole, void* part, std::size_t bytes) { std::memcpy(part, whole, bytes); });
}

void join_groups(Call& call) {
  FTPLAN_CHECK(!call.accumulates(0));
  for_each_share(
      call, call.out[0], call.in.data(), call.instruction.in.size(),
      [](void* whole, const void* part, std::size_t bytes) { std::memcpy(whole, part, bytes); });
}

}  // namespace ftplan::executor::FTPLAN_ISA

#include "program/ops/collective.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/machine.h"
#include "core/units.h"
#include "program/attributes.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/ops/checks.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

// Long enough that a transfer's start costs little, short enough that two lanes overlap.
constexpr Bytes kPiece{1024 * kKiB.value};
constexpr std::int64_t kLanes = 2;

Scratch ring_scratch(const Tensor& values, const OpView& v, const Machine& machine) {
  // What NCCL holds on GPUs is the process's, not the operation's.
  if (machine.backend != Backend::kCpu) return {};
  const std::int64_t ranks = v.attributes<CollectiveAttributes>().ranks;
  return {ring_buffers(values.shape.elements(), values.dtype, ranks).total()};
}
Scratch reduce_scatter_scratch(const OpView& v, const Machine& machine) {
  return ring_scratch(v.in(0), v, machine);
}
Scratch all_reduce_scratch(const OpView& v, const Machine& machine) {
  return ring_scratch(v.update(0), v, machine);
}

std::string check_reduce_scatter(const OpView& v) {
  const std::int64_t ranks = v.attributes<CollectiveAttributes>().ranks;
  return agree(v.in(0).shape.elements() == ranks * v.out(0).shape.elements() &&
                   (v.in(0).dtype == v.out(0).dtype || v.out(0).dtype == DType::kF32),
               "the shard must be 1/ranks of the whole, in its type or f32");
}
std::string check_all_gather(const OpView& v) {
  const std::int64_t ranks = v.attributes<CollectiveAttributes>().ranks;
  if (v.has_in(0)) {
    return agree(v.out(0).shape.elements() == ranks * v.in(0).shape.elements() &&
                     v.in(0).dtype == v.out(0).dtype,
                 "the shard must be 1/ranks of the whole");
  }
  return agree(v.update(0).shape.elements() % ranks == 0, "the whole must divide by the ranks");
}
std::string check_any(const OpView&) { return {}; }

}  // namespace

RingBuffers ring_buffers(std::int64_t elements, DType dtype, std::int64_t ranks) {
  if (ranks < 2 || elements == 0) return {.part = elements};
  RingBuffers ring{.part = divide_up(elements, ranks)};
  ring.piece = std::min(ring.part, kPiece.value / size_of(dtype).value);
  ring.lanes = std::min(kLanes, ring.pieces());
  ring.buffers = ranks > 2 ? 2 : 1;
  ring.buffer = round_up(ring.piece * size_of(dtype), kAlignment);
  return ring;
}

OpRow reduce_scatter_row() {
  return {.name = "reduce_scatter",
          .check = check_reduce_scatter,
          .flops = no_flops,
          .scratch = reduce_scatter_scratch};
}
OpRow all_gather_row() {
  return {
      .name = "all_gather", .check = check_all_gather, .flops = no_flops, .scratch = no_scratch};
}
OpRow all_reduce_row() {
  return {
      .name = "all_reduce", .check = check_any, .flops = no_flops, .scratch = all_reduce_scratch};
}

OpRow send_row() {
  return {.name = "send", .check = check_any, .flops = no_flops, .scratch = no_scratch};
}
OpRow receive_row() {
  return {.name = "receive", .check = check_any, .flops = no_flops, .scratch = no_scratch};
}

OpRow mark_row() {
  return {.name = "mark", .check = check_any, .flops = no_flops, .scratch = no_scratch};
}

bool is_collective(Op op) {
  return op == Op::kReduceScatter || op == Op::kAllGather || op == Op::kAllReduce;
}
bool is_transfer(Op op) { return op == Op::kSend || op == Op::kReceive; }
bool communicates(Op op) { return is_collective(op) || is_transfer(op); }

}  // namespace ftplan::program

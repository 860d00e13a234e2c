#include "program/ops/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/machine.h"
#include "core/units.h"
#include "program/attributes.h"
#include "program/backward.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/ops/checks.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

bool fits(const AttentionAttributes& a, const Tensor& q, const Tensor& k, const Tensor& v) {
  return q.shape.width() == a.heads * a.head_size && q.shape.rows() == a.rows * a.sequence &&
         k.shape.width() == a.kv_heads * a.head_size && v.shape == k.shape &&
         a.heads % a.kv_heads == 0 && q.dtype == k.dtype && k.dtype == v.dtype;
}

bool starts_fit(const AttentionAttributes& a, const Tensor& document_start) {
  return document_start.shape.elements() == a.rows * a.sequence;
}

std::string check(const OpView& v) {
  const auto& a = v.attributes<AttentionAttributes>();
  const bool log_sum = !v.has_out(1) || v.out(1).shape.elements() == a.heads * v.in(0).shape.rows();
  return agree(
      fits(a, v.in(0), v.in(1), v.in(2)) && same(v.in(0), v.out(0)) && log_sum &&
          starts_fit(a, v.in(3)),
      "q, k, v, o, the log-sum and the document starts must agree with heads and head_size");
}

std::string check_backward(const OpView& v) {
  const auto& a = v.attributes<AttentionAttributes>();
  const bool gradients = (!v.has_out(0) || same(v.out(0), v.in(1))) &&
                         (!v.has_out(1) || same(v.out(1), v.in(2))) &&
                         (!v.has_out(2) || same(v.out(2), v.in(3)));
  return agree(
      fits(a, v.in(1), v.in(2), v.in(3)) && same(v.in(0), v.in(4)) && gradients &&
          starts_fit(a, v.in(6)),
      "do, document starts, q, k, v, o and their gradients must agree with heads and head_size");
}

// Pairs of a query and a key that it sees in one row; `tokens` 0: no window.
double pairs_of(const AttentionAttributes& a, std::int64_t tokens) {
  const auto queries = static_cast<double>(a.sequence);
  const auto keys = static_cast<double>(a.cache > 0 ? a.cache : a.sequence);
  const double window = tokens > 0 ? std::min(static_cast<double>(tokens), keys) : keys;
  if (a.cache > 0) return queries * window;
  // A triangle where the window is not full yet, then a band.
  return window * window / 2 + (queries - window) * window;
}

// Two products forward and five backward; the mean over layers.
Flops pair_flops(const AttentionAttributes& a, double products) {
  const double pairs = a.windowed * pairs_of(a, a.window) + (1 - a.windowed) * pairs_of(a, 0);
  return {products * 2 * static_cast<double>(a.rows * a.heads * a.head_size) * pairs};
}
Flops flops(const OpView& v) { return pair_flops(v.attributes<AttentionAttributes>(), 2); }
Flops flops_backward(const OpView& v) { return pair_flops(v.attributes<AttentionAttributes>(), 5); }

Scratch scratch(const OpView& v, const Machine& machine) {
  if (machine.backend == Backend::kCuda) return {};  // flash attention forward has no workspace
  const auto blocks = attention_blocks(v.attributes<AttentionAttributes>());
  return {machine.threads * blocks.forward_floats * size_of(DType::kF32)};
}

Scratch scratch_backward(const OpView& v, const Machine& machine) {
  const auto& a = v.attributes<AttentionAttributes>();
  if (machine.backend == Backend::kCuda) {
    // f32 dq and softmax_d, and per-head dk and dv where heads share keys.
    // @source PyTorch 2.11 aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp, mha_bwd
    const std::int64_t queries = a.rows * round_up(a.sequence, 128) * a.heads;
    const std::int64_t expanded = a.heads == a.kv_heads ? 0 : 2 * 2 * queries * a.head_size;
    return {.bytes = {4 * queries * a.head_size + 4 * queries + expanded}, .exact = false};
  }
  return {machine.threads * attention_blocks(a).backward_floats * size_of(DType::kF32)};
}

void differentiate(const Instruction& forward, Backward& backward) {
  const Operand output = forward.out[0];
  const Operand d_output = backward.gradient(output);
  if (!d_output) return;
  Instruction instruction{
      .op = Op::kAttentionBackward,
      .attributes = forward.attributes,
      .in = {d_output, backward.keep(forward.in[0]), backward.keep(forward.in[1]),
             backward.keep(forward.in[2]), backward.keep(output), backward.keep(forward.out[1]),
             forward.in[3]}};
  if (backward.is_part(forward.in[0])) {
    backward.contribute(instruction, forward.in[0], "d fused");
  } else if (backward.needs_gradient(forward.in[0])) {
    // Head by head dq may replace do, which nobody reads after this.
    instruction.out.push_back(d_output);
    backward.set_gradient(forward.in[0], d_output);
  } else {
    instruction.out.push_back({});
  }
  backward.contribute(instruction, forward.in[1], "d key");
  backward.contribute(instruction, forward.in[2], "d value");
  backward.emit(instruction);
}

}  // namespace

float alibi_slope(std::int64_t head, std::int64_t heads) {
  std::int64_t power = 1;
  while (2 * power <= heads) power *= 2;
  const bool beyond = head >= power;
  // The powers of a base that is rounded to f32, as torch makes them.
  const double exponent = -8.0 / static_cast<double>(beyond ? 2 * power : power);
  const auto base = static_cast<float>(std::exp2(exponent));
  const auto step = static_cast<double>(beyond ? 2 * (head - power) + 1 : head + 1);
  return static_cast<float>(std::pow(static_cast<double>(base), step));
}

AttentionBlocks attention_blocks(const AttentionAttributes& a) {
  constexpr std::int64_t kMostQueries = 128;
  constexpr std::int64_t kMostKeys = 512;
  const std::int64_t keys = a.cache > 0 ? a.cache : a.sequence;
  AttentionBlocks blocks{.queries = std::min(a.sequence, kMostQueries),
                         .keys = std::min(keys, kMostKeys)};
  const std::int64_t d = a.head_size;
  const std::int64_t scores = blocks.queries * blocks.keys;
  // Scores; q and o blocks; k and v blocks; maximum and sum per query.
  blocks.forward_floats =
      round_up(scores + 2 * blocks.queries * d + 2 * blocks.keys * d + 2 * blocks.queries, 16);
  // Scores and their gradients; do, o, q blocks; k and v blocks; delta; dq, dk and dv of a whole
  // row.
  blocks.backward_floats = round_up(2 * scores + 3 * blocks.queries * d + 2 * blocks.keys * d +
                                        blocks.queries + 3 * a.sequence * d,
                                    16);
  return blocks;
}

OpRow attention_row() {
  return {.name = "attention",
          .check = check,
          .flops = flops,
          .scratch = scratch,
          .differentiate = differentiate};
}

OpRow attention_backward_row() {
  return {.name = "attention_backward",
          .check = check_backward,
          .flops = flops_backward,
          .scratch = scratch_backward};
}

}  // namespace ftplan::program

#include "program/ops/optimizer.h"

#include <cstdint>
#include <string>

#include "core/category.h"
#include "core/dtype.h"
#include "core/machine.h"
#include "core/units.h"
#include "models/dynamic_map.h"
#include "program/attributes.h"
#include "program/op_table.h"
#include "program/ops/checks.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

// 2 MiB of 8-bit states, which a PCIe link moves in much more than its latency.
constexpr std::int64_t kPageElements = 1 << 20;

std::string check_square_sum(const OpView& v) {
  return agree(v.update(0).dtype == DType::kF64 && v.update(0).shape.elements() == 1,
               "the sum must be one f64");
}
std::string check_clip(const OpView& v) {
  return agree(v.in(0).dtype == DType::kF64 && v.out(0).dtype == DType::kF32,
               "the sum must be f64 and the coefficient f32");
}

bool is_state_of(const Tensor& state, const Tensor& w) {
  return state.dtype == DType::kF32 && state.shape.elements() == w.shape.elements();
}

std::string check_adamw(const OpView& v) {
  const Tensor& w = v.update(0);
  const bool master = v.instruction.update.size() == 3
                          ? w.dtype == DType::kF32
                          : v.instruction.update.size() == 4 && is_state_of(v.update(3), w);
  return agree(master && is_state_of(v.update(1), w) && is_state_of(v.update(2), w) &&
                   v.in(0).shape.elements() == w.shape.elements(),
               "g, w, m, v and master must have one size, states f32, and 16-bit weights a master");
}

std::string check_adamw8bit(const OpView& v) {
  const Tensor& w = v.update(0);
  const std::int64_t count = w.shape.elements();
  const int states = v.instruction.update.size();
  bool agrees = states == (w.dtype == DType::kF32 ? 5 : 6) && v.in(0).shape.elements() == count;
  for (int i = 1; i <= 2 && agrees; ++i) {
    const Tensor& codes = v.update(i);
    const Tensor& scales = v.update(i + 2);
    agrees = codes.dtype == DType::kU8 && codes.shape.elements() == count &&
             scales.dtype == DType::kF32 &&
             scales.shape.elements() == models::dynamic_blocks(count);
  }
  agrees = agrees && (states == 5 || is_state_of(v.update(5), w));
  const std::int64_t padding = v.attributes<AdamwAttributes>().padding;
  return agree(
      agrees && padding >= 0 && padding <= count,
      "g, w, codes and master must have one size, scales one f32 a block, 16-bit weights a "
      "master");
}

std::string check_sgd(const OpView& v) {
  const Tensor& w = v.update(0);
  const int states = (v.attributes<SgdAttributes>().momentum > 0 ? 1 : 0) +
                     (w.dtype == DType::kF32 ? 0 : /*master=*/1);
  bool agrees =
      v.instruction.update.size() == 1 + states && v.in(0).shape.elements() == w.shape.elements();
  for (int i = 1; i <= states && agrees; ++i) agrees = is_state_of(v.update(i), w);
  return agree(agrees,
               "g, w, momentum and master must have one size, states f32, 16-bit weights a master");
}

Flops flops_square_sum(const OpView& v) { return flops_per_element(v.in(0), 2); }
Flops flops_adamw(const OpView& v) { return flops_per_element(v.update(0), 14); }
Flops flops_adamw8bit(const OpView& v) { return flops_per_element(v.update(0), 30); }
Flops flops_sgd(const OpView& v) { return flops_per_element(v.update(0), 6); }

Scratch scratch_square_sum(const OpView& v, const Machine&) {
  return {divide_up(v.in(0).shape.elements(), kReductionChunk) * size_of(DType::kF64)};
}

// On a GPU, pages of states that live on the host: one is updated while another travels.
Scratch scratch_pages(const OpView& v, const Machine& machine) {
  if (machine.backend != Backend::kCuda) return {};
  Bytes paged;
  for (int i = 1; i < v.instruction.update.size(); ++i) {
    if (v.program.storage_of(v.instruction.update[i].tensor).place != Place::kDevice)
      paged += v.update(i).extent();
  }
  const std::int64_t pages = divide_up(v.update(0).shape.elements(), kPageElements);
  return {.bytes = {2 * divide_up(paged.value, pages)}, .exact = paged == Bytes{}};
}

}  // namespace

OpRow square_sum_row() {
  return {.name = "square_sum",
          .check = check_square_sum,
          .flops = flops_square_sum,
          .scratch = scratch_square_sum};
}
OpRow clip_row() {
  return {.name = "clip", .check = check_clip, .flops = no_flops, .scratch = no_scratch};
}
OpRow adamw_row() {
  return {.name = "adamw", .check = check_adamw, .flops = flops_adamw, .scratch = scratch_pages};
}
OpRow adamw8bit_row() {
  return {.name = "adamw8bit",
          .check = check_adamw8bit,
          .flops = flops_adamw8bit,
          .scratch = scratch_pages};
}
OpRow sgd_row() {
  return {.name = "sgd", .check = check_sgd, .flops = flops_sgd, .scratch = no_scratch};
}

}  // namespace ftplan::program

#include "program/ops/rotate.h"

#include <string>

#include "core/dtype.h"
#include "core/model_config.h"
#include "core/units.h"
#include "program/attributes.h"
#include "program/backward.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/ops/checks.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

std::string check(const OpView& v) {
  const auto& a = v.attributes<RotateAttributes>();
  return agree(
      v.in(0).dtype == DType::kF32 && v.in(0).shape.width() == a.rotated &&
          a.rotated <= a.head_size && v.update(0).shape.width() == a.heads * a.head_size &&
          v.in(1).shape.elements() == v.update(0).shape.rows(),
      "table must have a column for each rotated value, t heads * head_size, positions one a row");
}

std::string check_table(const OpView& v) {
  return agree(v.out(0).dtype == DType::kF32 &&
                   v.out(0).shape.width() == v.attributes<RopeAttributes>().size &&
                   (!v.has_in(0) || v.in(0).dtype == DType::kI32),
               "the table must be f32 with a column for each rotated value, positions i32");
}

Flops flops(const OpView& v) { return flops_per_element(v.update(0), 3); }

void differentiate(const Instruction& forward, Backward& backward) {
  const Operand gradient = backward.gradient(forward.update[0]);
  if (!gradient) return;
  RotateAttributes attributes = backward.program().attributes_of<RotateAttributes>(forward);
  attributes.inverse = true;
  backward.emit({.op = Op::kRotate,
                 .attributes = backward.emitter().attributes(attributes),
                 .in = forward.in,
                 .update = {gradient}});
}

}  // namespace

RopeAttributes rope_attributes(const ModelConfig& model) {
  return {.size = model.rotated_size(),
          .theta = model.rope_theta,
          .scaling = model.rope_scaling,
          .factor = model.rope_factor,
          .low_frequency_factor = model.rope_low_frequency_factor,
          .high_frequency_factor = model.rope_high_frequency_factor,
          .original_positions = model.rope_original_positions,
          .attention_factor = model.rope_attention_factor,
          .fast_turns = model.rope_fast_turns,
          .slow_turns = model.rope_slow_turns,
          .truncated = model.rope_truncated,
          .short_factors = model.rope_short_factors,
          .long_factors = model.rope_long_factors};
}

OpRow rope_table_row() {
  return {.name = "rope_table", .check = check_table, .flops = no_flops, .scratch = no_scratch};
}

OpRow rotate_row() {
  return {.name = "rotate",
          .check = check,
          .flops = flops,
          .scratch = no_scratch,
          .differentiate = differentiate};
}

}  // namespace ftplan::program

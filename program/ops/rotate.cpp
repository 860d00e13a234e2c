#include "program/ops/rotate.h"

#include <string>

#include "core/dtype.h"
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
  return agree(v.in(0).dtype == DType::kF32 && v.in(0).shape.width() == a.head_size &&
                   v.update(0).shape.width() == a.heads * a.head_size &&
                   v.in(1).shape.elements() == v.update(0).shape.rows(),
               "table must have head_size columns, t heads * head_size, positions one a row");
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

OpRow rotate_row() {
  return {.name = "rotate",
          .check = check,
          .flops = flops,
          .scratch = no_scratch,
          .differentiate = differentiate};
}

}  // namespace ftplan::program

#include "program/ops/add.h"

#include <string>

#include "core/units.h"
#include "program/backward.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/ops/checks.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

std::string check(const OpView& v) {
  return agree(same(v.in(0), v.update(0)), "x and y must agree");
}
Flops flops(const OpView& v) { return flops_per_element(v.update(0), 1); }

void differentiate(const Instruction& forward, Backward& backward) {
  const Operand x = forward.in[0];
  const Operand y = forward.update[0];
  if (!backward.gradient(y) || !backward.needs_gradient(x)) return;
  if (!backward.gradient(x)) {
    backward.share(x, y);
    return;
  }
  backward.emit({.op = Op::kAdd, .in = {backward.gradient(y)}, .update = {backward.gradient(x)}});
}

}  // namespace

OpRow add_row() {
  return {.name = "add",
          .check = check,
          .flops = flops,
          .scratch = no_scratch,
          .differentiate = differentiate};
}

}  // namespace ftplan::program

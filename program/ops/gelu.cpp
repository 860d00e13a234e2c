#include "program/ops/gelu.h"

#include <string>

#include "core/units.h"
#include "program/backward.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/ops/checks.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

std::string check(const OpView& v) { return agree(same(v.in(0), v.out(0)), "x and a must agree"); }
std::string check_backward(const OpView& v) {
  return agree(same(v.update(0), v.update(1)), "da and x must agree");
}

Flops flops(const OpView& v) { return flops_per_element(v.out(0), 10); }
Flops flops_backward(const OpView& v) { return flops_per_element(v.update(0), 14); }

void differentiate(const Instruction& forward, Backward& backward) {
  const Operand da = backward.gradient(forward.out[0]);
  if (!da) return;
  const Operand x = backward.keep(forward.in[0]);
  backward.emit({.op = Op::kGeluBackward, .update = {da, x}});
  backward.set_gradient(x, x);
  backward.yield(forward.out[0], da);
}

void repeat(const Instruction& forward, Backward& backward) {
  const Tensor like = backward.program().tensor(forward.out[0]);
  const Operand again{backward.emitter().transient("activated again", like.shape, like.dtype)};
  backward.emit({.op = Op::kGelu, .in = {backward.keep(forward.in[0])}, .out = {again}});
  backward.yield(forward.out[0], again);
}

}  // namespace

OpRow gelu_row() {
  return {.name = "gelu",
          .check = check,
          .flops = flops,
          .scratch = no_scratch,
          .differentiate = differentiate,
          .recall = Recall::kYielded,
          .repeat = repeat};
}

OpRow gelu_backward_row() {
  return {.name = "gelu_backward",
          .check = check_backward,
          .flops = flops_backward,
          .scratch = no_scratch};
}

}  // namespace ftplan::program

#include "program/ops/gated_silu.h"

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
  return agree(same(v.in(0), v.in(1)) && same(v.in(0), v.out(0)), "g, u and a must agree");
}
std::string check_backward(const OpView& v) {
  return agree(same(v.update(0), v.update(1)) && same(v.update(1), v.update(2)),
               "da, g and u must agree");
}

Flops flops(const OpView& v) { return flops_per_element(v.out(0), 5); }
Flops flops_backward(const OpView& v) { return flops_per_element(v.update(0), 12); }

template <Op kBackward>
void differentiate(const Instruction& forward, Backward& backward) {
  const Operand da = backward.gradient(forward.out[0]);
  if (!da) return;
  const Operand g = backward.keep(forward.in[0]);
  const Operand u = backward.keep(forward.in[1]);
  backward.emit({.op = kBackward, .update = {da, g, u}});
  backward.set_gradient(g, g);
  backward.set_gradient(u, u);
  backward.yield(forward.out[0], da);
}

void repeat(const Instruction& forward, Backward& backward) {
  const Tensor like = backward.program().tensor(forward.out[0]);
  const Operand again{backward.emitter().transient("activated again", like.shape, like.dtype)};
  backward.emit({.op = forward.op,
                 .in = {backward.keep(forward.in[0]), backward.keep(forward.in[1])},
                 .out = {again}});
  backward.yield(forward.out[0], again);
}

}  // namespace

OpRow gated_silu_row() {
  return {.name = "gated_silu",
          .check = check,
          .flops = flops,
          .scratch = no_scratch,
          .differentiate = differentiate<Op::kGatedSiluBackward>,
          .recall = Recall::kYielded,
          .repeat = repeat};
}

OpRow gated_silu_backward_row() {
  return {.name = "gated_silu_backward",
          .check = check_backward,
          .flops = flops_backward,
          .scratch = no_scratch};
}

OpRow gated_gelu_row() {
  OpRow row = gated_silu_row();
  row.name = "gated_gelu";
  row.differentiate = differentiate<Op::kGatedGeluBackward>;
  return row;
}

OpRow gated_gelu_backward_row() {
  OpRow row = gated_silu_backward_row();
  row.name = "gated_gelu_backward";
  return row;
}

}  // namespace ftplan::program

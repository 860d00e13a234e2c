#include "program/ops/dropout.h"

#include <cstdint>
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
  const std::int64_t rows = v.in(1).shape.elements();
  return agree(same(v.in(0), v.out(0)) && rows > 0 && v.in(0).shape.rows() % rows == 0,
               "x and y must agree and hold whole rows");
}
Flops flops(const OpView& v) { return flops_per_element(v.out(0), 12); }

void differentiate(const Instruction& forward, Backward& backward) {
  const Operand dy = backward.gradient(forward.out[0]);
  if (!dy || !backward.needs_gradient(forward.in[0])) return;
  Instruction instruction{
      .op = Op::kDropoutBackward, .attributes = forward.attributes, .in = {dy, forward.in[1]}};
  backward.contribute(instruction, forward.in[0], "d dropout input");
  backward.emit(instruction);
}

void repeat(const Instruction& forward, Backward& backward) {
  backward.recall(forward.in[0], [&backward, forward](Operand x) {
    const Tensor like = backward.program().tensor(x);
    const Operand again{backward.emitter().transient("dropped again", like.shape, like.dtype)};
    backward.emit({.op = Op::kDropout,
                   .attributes = forward.attributes,
                   .in = {x, forward.in[1]},
                   .out = {again}});
    backward.yield(forward.out[0], again);
  });
}

}  // namespace

OpRow dropout_row() {
  return {.name = "dropout",
          .check = check,
          .flops = flops,
          .scratch = no_scratch,
          .differentiate = differentiate,
          .recall = Recall::kRepeat,
          .repeat = repeat};
}

OpRow dropout_backward_row() {
  return {.name = "dropout_backward", .check = check, .flops = flops, .scratch = no_scratch};
}

}  // namespace ftplan::program

#include "program/ops/elementwise.h"

#include <string>

#include "program/backward.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/ops/checks.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

std::string check_cast(const OpView& v) {
  return agree(v.in(0).shape.elements() == v.out(0).shape.elements(), "x and y must have one size");
}
std::string check_copy(const OpView& v) {
  return agree(same(v.in(0), v.out(0)), "x and y must agree");
}
std::string check_zero(const OpView&) { return {}; }

// Products with the cast write straight into the gradient of its source, see Backward::contribute.
void pass_on(const Instruction&, Backward&) {}

void repeat_cast(const Instruction& forward, Backward& backward) {
  const Tensor like = backward.program().tensor(forward.out[0]);
  const Operand again{backward.emitter().transient("cast again", like.shape, like.dtype)};
  backward.emit({.op = Op::kCast, .in = forward.in, .out = {again}});
  backward.yield(forward.out[0], again);
}

}  // namespace

OpRow cast_row() {
  return {.name = "cast",
          .check = check_cast,
          .flops = no_flops,
          .scratch = no_scratch,
          .differentiate = pass_on,
          .recall = Recall::kRepeat,
          .repeat = repeat_cast};
}
OpRow copy_row() {
  return {.name = "copy", .check = check_copy, .flops = no_flops, .scratch = no_scratch};
}
OpRow zero_row() {
  return {.name = "zero", .check = check_zero, .flops = no_flops, .scratch = no_scratch};
}

}  // namespace ftplan::program

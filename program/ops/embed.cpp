#include "program/ops/embed.h"

#include <string>

#include "core/dtype.h"
#include "core/machine.h"
#include "core/units.h"
#include "program/backward.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/ops/checks.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

std::string check(const OpView& v) {
  return agree(v.in(0).shape.elements() == v.out(0).shape.rows() &&
                   v.in(1).shape.width() == v.out(0).shape.width() &&
                   (v.in(1).dtype == v.out(0).dtype || v.in(1).dtype == DType::kF32),
               "ids must be one a row of x, table and x of one width, and of one type or the "
               "table f32");
}
std::string check_backward(const OpView& v) {
  return agree(v.in(1).shape.elements() == v.in(0).shape.rows() &&
                   v.in(2).shape.elements() == v.in(0).shape.rows() &&
                   v.out(0).shape.width() == v.in(0).shape.width(),
               "ids and token_order must be one a row of dx, which has the table's width");
}
Flops flops_backward(const OpView& v) { return flops_per_element(v.in(0), 1); }

Scratch scratch_backward(const OpView& v, const Machine& machine) {
  return {machine.threads * v.in(0).shape.width() * size_of(DType::kF32)};
}

void differentiate(const Instruction& forward, Backward& backward) {
  const Operand dx = backward.gradient(forward.out[0]);
  if (!dx || !backward.needs_gradient(forward.in[1])) return;
  Instruction instruction{.op = Op::kEmbedBackward,
                          .attributes = forward.attributes,
                          .in = {dx, forward.in[0], forward.in[2]}};
  backward.contribute(instruction, forward.in[1], "d embedding");
  backward.emit(instruction);
}

}  // namespace

OpRow embed_row() {
  return {.name = "embed",
          .check = check,
          .flops = no_flops,
          .scratch = no_scratch,
          .differentiate = differentiate};
}

OpRow embed_backward_row() {
  return {.name = "embed_backward",
          .check = check_backward,
          .flops = flops_backward,
          .scratch = scratch_backward};
}

}  // namespace ftplan::program

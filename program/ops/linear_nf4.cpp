#include "program/ops/linear_nf4.h"

#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/units.h"
#include "models/nf4.h"
#include "program/backward.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/ops/checks.h"
#include "program/ops/linear.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

// `x` has the weight's inputs and `y` its outputs, in whichever order they are operands.
std::string check_product(const OpView& v, const Tensor& x, const Tensor& y) {
  const auto counts = models::nf4_counts(x.shape.width() * y.shape.width());
  const bool nested = v.has_in(3);
  const auto has = [&](int i, std::int64_t elements, DType dtype) {
    return v.in(i).shape.elements() == elements && v.in(i).dtype == dtype;
  };
  const bool scales = nested ? has(2, counts.blocks, DType::kU8) && v.has_in(4) &&
                                   has(3, counts.nested, DType::kF32) && has(4, 1, DType::kF32)
                             : has(2, counts.blocks, DType::kF32) && !v.has_in(4);
  return agree(scales && has(1, counts.packed, DType::kU8) && x.dtype == y.dtype &&
                   x.shape.rows() == y.shape.rows(),
               "x [T, I], y [T, O] and the packed w [O, I] with its scales must agree");
}

std::string check(const OpView& v) {
  const bool bias = !v.has_in(5) || v.in(5).shape.elements() == v.out(0).shape.width();
  return bias ? check_product(v, v.in(0), v.out(0)) : "the bias must have an element an output";
}
std::string check_input_gradient(const OpView& v) { return check_product(v, v.out(0), v.in(0)); }

Flops flops(const OpView& v) {
  return flops_per_element(v.in(0), 2 * static_cast<double>(v.out(0).shape.width()));
}

void differentiate(const Instruction& forward, Backward& backward) {
  const Operand dy = backward.gradient(forward.out[0]);
  const Operand x = forward.in[0];
  if (!dy || !backward.needs_gradient(x)) return;
  Instruction instruction{.op = Op::kLinearNf4InputGradient, .in = {dy}};
  for (int i = 1; i < 5; ++i) instruction.in.push_back(forward.in[i]);
  backward.contribute(instruction, x, "d linear input");
  backward.emit(instruction);
}

}  // namespace

OpRow linear_nf4_row() {
  return {.name = "linear_nf4",
          .check = check,
          .flops = flops,
          .scratch = packed_scratch,
          .differentiate = differentiate};
}

OpRow linear_nf4_input_gradient_row() {
  return {.name = "linear_nf4_input_gradient",
          .check = check_input_gradient,
          .flops = flops,
          .scratch = packed_scratch};
}

}  // namespace ftplan::program

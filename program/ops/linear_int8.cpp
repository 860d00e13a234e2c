#include "program/ops/linear_int8.h"

#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/machine.h"
#include "core/units.h"
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
  const Tensor& codes = v.in(1);
  const Tensor& scales = v.in(2);
  return agree(codes.dtype == DType::kI8 && scales.dtype == DType::kF32 &&
                   codes.shape.elements() == x.shape.width() * y.shape.width() &&
                   scales.shape.elements() == y.shape.width() && x.dtype == y.dtype &&
                   x.shape.rows() == y.shape.rows(),
               "x [T, I], y [T, O], the codes of w [O, I] and a scale an output must agree");
}

std::string check(const OpView& v) {
  const bool bias = !v.has_in(3) || v.in(3).shape.elements() == v.out(0).shape.width();
  return bias ? check_product(v, v.in(0), v.out(0)) : "the bias must have an element an output";
}
std::string check_input_gradient(const OpView& v) { return check_product(v, v.out(0), v.in(0)); }

Flops flops(const OpView& v) {
  return flops_per_element(v.in(0), 2 * static_cast<double>(v.out(0).shape.width()));
}

Scratch scratch(const OpView& v, const Machine& machine) {
  const std::int64_t m = v.in(0).shape.rows();
  const std::int64_t k = v.in(0).shape.width();
  const std::int64_t n = v.out(0).shape.width();
  if (machine.backend == Backend::kCuda) {
    const Bytes rows = m * (k * size_of(DType::kI8) + size_of(DType::kF32));
    return {.bytes = rows + m * n * size_of(DType::kI32), .exact = false};
  }
  const std::int64_t floats =
      int8_marks(m, k) + machine.threads * int8_blocks(m, n, k, machine.threads).floats;
  return {floats * size_of(DType::kF32)};
}

Scratch scratch_input_gradient(const OpView& v, const Machine& machine) {
  return packed_scratch(v, machine);
}

void differentiate(const Instruction& forward, Backward& backward) {
  const Operand dy = backward.gradient(forward.out[0]);
  const Operand x = forward.in[0];
  if (!dy || !backward.needs_gradient(x)) return;
  Instruction instruction{.op = Op::kLinearInt8InputGradient,
                          .in = {dy, forward.in[1], forward.in[2]}};
  backward.contribute(instruction, x, "d linear input");
  backward.emit(instruction);
}

}  // namespace

ProductBlocks int8_blocks(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t threads) {
  ProductBlocks blocks = product_blocks(m, n, k, threads);
  static_assert(512 * 127 * 127 < 1 << 24);
  blocks.floats += blocks.rows * blocks.columns;
  return blocks;
}

OpRow linear_int8_row() {
  return {.name = "linear_int8",
          .check = check,
          .flops = flops,
          .scratch = scratch,
          .differentiate = differentiate};
}

OpRow linear_int8_input_gradient_row() {
  return {.name = "linear_int8_input_gradient",
          .check = check_input_gradient,
          .flops = flops,
          .scratch = scratch_input_gradient};
}

}  // namespace ftplan::program

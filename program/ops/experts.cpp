#include "program/ops/experts.h"

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

bool is_sent(const Tensor& x, const Tensor& sent, const Tensor& rows) {
  return rows.dtype == DType::kI32 && rows.shape.rows() == x.shape.rows() &&
         sent.shape.rows() == rows.shape.elements() && sent.shape.width() == x.shape.width() &&
         sent.dtype == x.dtype;
}

bool is_expert_product(const Tensor& x, const Tensor& w, const Tensor& y, const Tensor& ends) {
  return x.shape.rows() == y.shape.rows() && w.shape.rank() == 2 &&
         w.shape[1] == x.shape.width() * y.shape.width() && ends.dtype == DType::kI32 &&
         ends.shape.elements() == w.shape[0] && x.dtype == y.dtype;
}

std::string check_route(const OpView& v) {
  const std::int64_t per_token = v.out(0).shape.width();
  return agree(v.out(0).dtype == DType::kF32 && v.out(0).shape == v.out(1).shape &&
                   v.out(0).shape.rows() == v.in(0).shape.rows() &&
                   per_token <= v.in(0).shape.width() &&
                   v.out(2).shape.elements() == v.in(0).shape.width(),
               "logits [T, E], scores and rows [T, K] and ends [E] must agree");
}
std::string check_route_backward(const OpView& v) {
  return agree(v.in(0).shape == v.in(1).shape && v.in(1).shape == v.in(2).shape &&
                   v.out(0).shape.rows() == v.in(0).shape.rows() &&
                   v.in(3).shape.elements() == v.out(0).shape.width(),
               "dscores, scores and rows [T, K], ends [E] and dlogits [T, E] must agree");
}
std::string check_dispatch(const OpView& v) {
  return agree(is_sent(v.in(0), v.out(0), v.in(1)), "x [T, H] and rows [T, K] must fill [KT, H]");
}
std::string check_dispatch_backward(const OpView& v) {
  return agree(is_sent(v.out(0), v.in(0), v.in(1)), "dx [T, H] and rows [T, K] must agree");
}
std::string check_linear(const OpView& v) {
  return agree(
      is_expert_product(v.in(0), v.in(1), v.out(0), v.in(2)) && v.in(1).dtype == v.in(0).dtype,
      "x [KT, I], w [E, O*I], ends [E] and y [KT, O] must agree");
}
std::string check_input_gradient(const OpView& v) {
  return agree(
      is_expert_product(v.out(0), v.in(1), v.in(0), v.in(2)) && v.in(1).dtype == v.in(0).dtype,
      "dy [KT, O], w [E, O*I], ends [E] and dx [KT, I] must agree");
}
std::string check_weight_gradient(const OpView& v) {
  return agree(is_expert_product(v.in(1), v.out(0), v.in(0), v.in(2)) &&
                   (v.out(0).dtype == v.in(0).dtype || v.out(0).dtype == DType::kF32),
               "dy [KT, O], x [KT, I], ends [E] and dw [E, O*I] must agree");
}
std::string check_combine(const OpView& v) {
  return agree(is_sent(v.out(0), v.in(0), v.in(2)) && v.in(1).shape == v.in(2).shape,
               "y [KT, H], scores and rows [T, K] and x [T, H] must agree");
}
std::string check_combine_backward(const OpView& v) {
  return agree(is_sent(v.in(0), v.update(0), v.in(2)) && v.in(1).shape == v.in(2).shape &&
                   v.out(0).shape == v.in(1).shape,
               "dx [T, H], y [KT, H], scores, rows and dscores [T, K] must agree");
}

// Each row meets one expert.
Flops product(const Tensor& x, const Tensor& y) {
  return {2.0 * static_cast<double>(x.shape.elements()) * static_cast<double>(y.shape.width())};
}
Flops flops_linear(const OpView& v) { return product(v.in(0), v.out(0)); }
Flops flops_weight_gradient(const OpView& v) { return product(v.in(0), v.in(1)); }
Flops flops_route(const OpView& v) { return flops_per_element(v.in(0), 4); }
Flops flops_route_backward(const OpView& v) { return flops_per_element(v.in(0), 4); }
Flops flops_combine(const OpView& v) { return flops_per_element(v.in(0), 2); }
Flops flops_combine_backward(const OpView& v) { return flops_per_element(v.update(0), 3); }
Flops flops_dispatch_backward(const OpView& v) { return flops_per_element(v.in(0), 1); }

// No expert has more rows than there are tokens, at most `sent`.
Scratch scratch_of_slices(const OpView& v, const Machine& machine, const ProductBlocks& blocks,
                          DType dtype) {
  if (machine.backend == Backend::kCuda) {
    return product_scratch(v, machine, blocks.rows, blocks.columns, blocks.depth, dtype);
  }
  if (dtype == DType::kF32) return {};
  return {machine.threads * blocks.floats * size_of(DType::kF32)};
}
Scratch scratch_linear(const OpView& v, const Machine& machine) {
  return scratch_of_slices(v, machine, expert_blocks(v.in(0), v.out(0), machine.threads),
                           v.in(0).dtype);
}
Scratch scratch_weight_gradient(const OpView& v, const Machine& machine) {
  return scratch_of_slices(v, machine, expert_gradient_blocks(v.in(0), v.in(1), machine.threads),
                           v.in(0).dtype);
}

// The logits' gradient follows from the scores: those of experts that a token does not see
// contribute nothing once the others are divided by their sum.
void differentiate_route(const Instruction& forward, Backward& backward) {
  const Operand dscores = backward.gradient(forward.out[0]);
  if (!dscores || !backward.needs_gradient(forward.in[0])) return;
  Instruction instruction{.op = Op::kRouteBackward,
                          .in = {dscores, backward.keep(forward.out[0]),
                                 backward.keep(forward.out[1]), backward.keep(forward.out[2])}};
  backward.contribute(instruction, forward.in[0], "d logits of experts");
  backward.emit(instruction);
}

void differentiate_dispatch(const Instruction& forward, Backward& backward) {
  const Operand dsent = backward.gradient(forward.out[0]);
  if (!dsent || !backward.needs_gradient(forward.in[0])) return;
  Instruction instruction{.op = Op::kDispatchBackward, .in = {dsent, backward.keep(forward.in[1])}};
  backward.contribute(instruction, forward.in[0], "d dispatched");
  backward.emit(instruction);
}

void differentiate_linear(const Instruction& forward, Backward& backward) {
  const Operand dy = backward.gradient(forward.out[0]);
  if (!dy) return;
  const Operand x = forward.in[0];
  const Operand w = forward.in[1];
  const Operand ends = backward.keep(forward.in[2]);
  if (backward.needs_gradient(w)) {
    backward.recall(x, [&backward, dy, w, ends](Operand again) {
      Instruction instruction{.op = Op::kExpertWeightGradient, .in = {dy, again, ends}};
      backward.contribute(instruction, w, "d experts");
      backward.emit(instruction);
    });
  }
  if (!backward.needs_gradient(x)) return;
  Instruction instruction{.op = Op::kExpertInputGradient, .in = {dy, backward.keep(w), ends}};
  backward.contribute(instruction, x, "d expert input");
  backward.emit(instruction);
}

void differentiate_combine(const Instruction& forward, Backward& backward) {
  const Operand dx = backward.gradient(forward.out[0]);
  if (!dx) return;
  const Operand y = backward.keep(forward.in[0]);
  Instruction instruction{.op = Op::kCombineBackward,
                          .in = {dx, backward.keep(forward.in[1]), backward.keep(forward.in[2])},
                          .update = {y}};
  backward.contribute(instruction, forward.in[1], "d scores");
  backward.emit(instruction);
  backward.set_gradient(y, y);
}

}  // namespace

ProductBlocks expert_blocks(const Tensor& x, const Tensor& y, std::int64_t threads) {
  return product_blocks(x.shape.rows(), y.shape.width(), x.shape.width(), threads);
}

ProductBlocks expert_gradient_blocks(const Tensor& dy, const Tensor& x, std::int64_t threads) {
  return product_blocks(dy.shape.width(), x.shape.width(), x.shape.rows(), threads);
}

OpRow route_row() {
  return {.name = "route",
          .check = check_route,
          .flops = flops_route,
          .scratch = no_scratch,
          .differentiate = differentiate_route};
}
OpRow route_backward_row() {
  return {.name = "route_backward",
          .check = check_route_backward,
          .flops = flops_route_backward,
          .scratch = no_scratch};
}
OpRow dispatch_row() {
  return {.name = "dispatch",
          .check = check_dispatch,
          .flops = no_flops,
          .scratch = no_scratch,
          .differentiate = differentiate_dispatch};
}
OpRow dispatch_backward_row() {
  return {.name = "dispatch_backward",
          .check = check_dispatch_backward,
          .flops = flops_dispatch_backward,
          .scratch = no_scratch};
}
OpRow expert_linear_row() {
  return {.name = "expert_linear",
          .check = check_linear,
          .flops = flops_linear,
          .scratch = scratch_linear,
          .differentiate = differentiate_linear};
}
OpRow expert_input_gradient_row() {
  return {.name = "expert_input_gradient",
          .check = check_input_gradient,
          .flops = flops_linear,
          .scratch = scratch_linear};
}
OpRow expert_weight_gradient_row() {
  return {.name = "expert_weight_gradient",
          .check = check_weight_gradient,
          .flops = flops_weight_gradient,
          .scratch = scratch_weight_gradient};
}
OpRow combine_row() {
  return {.name = "combine",
          .check = check_combine,
          .flops = flops_combine,
          .scratch = no_scratch,
          .differentiate = differentiate_combine};
}
OpRow combine_backward_row() {
  return {.name = "combine_backward",
          .check = check_combine_backward,
          .flops = flops_combine_backward,
          .scratch = no_scratch};
}

}  // namespace ftplan::program

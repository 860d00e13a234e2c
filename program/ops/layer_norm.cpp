#include "program/ops/layer_norm.h"

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

bool is_weight_of(const Tensor& w, const Tensor& x) {
  return x.shape.width() == w.shape.elements() && (w.dtype == x.dtype || w.dtype == DType::kF32);
}

bool are_moments_of(const Tensor& moments, const Tensor& x) {
  return moments.dtype == DType::kF32 && moments.shape.elements() == 2 * x.shape.rows();
}

std::string check_forward(const OpView& v, const Tensor& moments) {
  return agree(same(v.in(0), v.out(0)) && is_weight_of(v.in(1), v.in(0)) &&
                   same(v.in(1), v.in(2)) && are_moments_of(moments, v.in(0)),
               "x and y must agree, w and b must have x's width, moments two f32 a row");
}

std::string check(const OpView& v) { return check_forward(v, v.out(1)); }
std::string check_apply(const OpView& v) { return check_forward(v, v.in(3)); }

std::string check_backward(const OpView& v) {
  const bool inputs =
      same(v.in(0), v.in(1)) && is_weight_of(v.in(2), v.in(1)) && are_moments_of(v.in(3), v.in(1));
  const auto fits = [&](int i) {
    return !v.has_out(i) || v.out(i).shape.elements() == v.in(2).shape.elements();
  };
  const bool dx = !v.has_out(0) || same(v.out(0), v.in(1));
  return agree(inputs && dx && fits(1) && fits(2),
               "dy, x and dx must agree, dw and db must have w's width");
}

Flops flops(const OpView& v) { return flops_per_element(v.in(0), 7); }
Flops flops_backward(const OpView& v) { return flops_per_element(v.in(0), 14); }

Scratch scratch_backward(const OpView& v, const Machine& machine) {
  if (!v.has_out(1) && !v.has_out(2)) return {};
  return {2 * machine.threads * v.in(2).shape.elements() * size_of(DType::kF32)};
}

void differentiate(const Instruction& forward, Backward& backward) {
  const Operand x = forward.in[0];
  const Operand w = forward.in[1];
  const Operand b = forward.in[2];
  const Operand dy = backward.gradient(forward.out[0]);
  if (!dy || (!backward.needs_gradient(x) && !backward.needs_gradient(w))) return;
  Instruction instruction{.op = Op::kLayerNormBackward,
                          .attributes = forward.attributes,
                          .in = {dy, backward.keep(x), w, backward.keep(forward.out[1])}};
  backward.contribute_over(instruction, x, forward.out[0], dy, "d norm input");
  backward.contribute(instruction, w, "d norm weight");
  backward.contribute(instruction, b, "d norm bias");
  backward.emit(instruction);
}

void repeat(const Instruction& forward, Backward& backward) {
  const Tensor like = backward.program().tensor(forward.out[0]);
  const Operand again{backward.emitter().transient("normed again", like.shape, like.dtype)};
  backward.emit({.op = Op::kLayerNormApply,
                 .attributes = forward.attributes,
                 .in = {backward.keep(forward.in[0]), forward.in[1], forward.in[2],
                        backward.keep(forward.out[1])},
                 .out = {again}});
  backward.yield(forward.out[0], again);
}

}  // namespace

OpRow layer_norm_row() {
  return {.name = "layer_norm",
          .check = check,
          .flops = flops,
          .scratch = no_scratch,
          .differentiate = differentiate,
          .recall = Recall::kRepeat,
          .repeat = repeat};
}

OpRow layer_norm_apply_row() {
  return {.name = "layer_norm_apply", .check = check_apply, .flops = flops, .scratch = no_scratch};
}

OpRow layer_norm_backward_row() {
  return {.name = "layer_norm_backward",
          .check = check_backward,
          .flops = flops_backward,
          .scratch = scratch_backward};
}

}  // namespace ftplan::program

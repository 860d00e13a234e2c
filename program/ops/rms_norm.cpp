#include "program/ops/rms_norm.h"

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
  return x.shape.width() % w.shape.elements() == 0 &&
         (w.dtype == x.dtype || w.dtype == DType::kF32);
}

bool is_scale_of(const Tensor& inv_rms, const Tensor& x, const Tensor& w) {
  return inv_rms.dtype == DType::kF32 &&
         inv_rms.shape.elements() * w.shape.elements() == x.shape.elements();
}

constexpr const char* kAgreement =
    "x and y must agree, w must have x's width or that of a head, inv_rms one f32 for each";

std::string check(const OpView& v) {
  return agree(same(v.in(0), v.out(0)) && is_weight_of(v.in(1), v.in(0)) &&
                   is_scale_of(v.out(1), v.in(0), v.in(1)),
               kAgreement);
}

std::string check_apply(const OpView& v) {
  return agree(same(v.in(0), v.out(0)) && is_weight_of(v.in(1), v.in(0)) &&
                   is_scale_of(v.in(2), v.in(0), v.in(1)),
               kAgreement);
}

std::string check_backward(const OpView& v) {
  const bool inputs = same(v.in(0), v.in(1)) && is_weight_of(v.in(2), v.in(1)) &&
                      is_scale_of(v.in(3), v.in(1), v.in(2));
  const bool dx = !v.has_out(0) || same(v.out(0), v.in(1));
  const bool dw = !v.has_out(1) || v.out(1).shape.elements() == v.in(2).shape.elements();
  return agree(inputs && dx && dw, "dy, x and dx must agree, dw must have w's width");
}

Flops flops(const OpView& v) { return flops_per_element(v.in(0), 4); }
Flops flops_backward(const OpView& v) { return flops_per_element(v.in(0), 9); }

Scratch scratch_backward(const OpView& v, const Machine& machine) {
  if (!v.has_out(1)) return {};
  return {machine.threads * v.in(2).shape.elements() * size_of(DType::kF32)};
}

void differentiate(const Instruction& forward, Backward& backward) {
  const Operand x = forward.in[0];
  const Operand w = forward.in[1];
  const Operand dy = backward.gradient(forward.out[0]);
  if (!dy || (!backward.needs_gradient(x) && !backward.needs_gradient(w))) return;
  Instruction instruction{.op = Op::kRmsNormBackward,
                          .attributes = forward.attributes,
                          .in = {dy, backward.keep(x), w, backward.keep(forward.out[1])}};
  backward.contribute_over(instruction, x, forward.out[0], dy, "d norm input");
  backward.contribute(instruction, w, "d norm weight");
  backward.emit(instruction);
}

void repeat(const Instruction& forward, Backward& backward) {
  const Tensor like = backward.program().tensor(forward.out[0]);
  const Operand again{backward.emitter().transient("normed again", like.shape, like.dtype)};
  backward.emit({.op = Op::kRmsNormApply,
                 .attributes = forward.attributes,
                 .in = {backward.keep(forward.in[0]), forward.in[1], backward.keep(forward.out[1])},
                 .out = {again}});
  backward.yield(forward.out[0], again);
}

}  // namespace

OpRow rms_norm_row() {
  return {.name = "rms_norm",
          .check = check,
          .flops = flops,
          .scratch = no_scratch,
          .differentiate = differentiate,
          .recall = Recall::kRepeat,
          .repeat = repeat};
}

OpRow rms_norm_apply_row() {
  return {.name = "rms_norm_apply", .check = check_apply, .flops = flops, .scratch = no_scratch};
}

OpRow rms_norm_backward_row() {
  return {.name = "rms_norm_backward",
          .check = check_backward,
          .flops = flops_backward,
          .scratch = scratch_backward};
}

}  // namespace ftplan::program

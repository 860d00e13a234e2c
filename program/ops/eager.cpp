#include "program/ops/eager.h"

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/machine.h"
#include "core/units.h"
#include "program/attributes.h"
#include "program/backward.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/ops/checks.h"
#include "program/ops/linear.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

bool is_product(const Tensor& x, const Tensor& w, const Tensor& y) {
  return w.shape.rank() == 2 && x.shape.width() == w.shape[1] && y.shape.width() == w.shape[0] &&
         x.shape.rows() == y.shape.rows() && x.dtype == w.dtype && y.dtype == w.dtype;
}

// Whether y has one element for each of x.
bool is_elementwise(EagerKind kind) {
  switch (kind) {
    case EagerKind::kEmbedding:
    case EagerKind::kLinear:
    case EagerKind::kMatmul:
    case EagerKind::kRowScale:
    case EagerKind::kRotaryTables:
    case EagerKind::kRepeatHeads:
    case EagerKind::kNllLoss:
      return false;
    default:
      return true;
  }
}

std::string check(const OpView& v) {
  const EagerKind kind = v.attributes<EagerAttributes>().kind;
  if (kind == EagerKind::kLinear) {
    return agree(is_product(v.in(0), v.in(1), v.out(0)),
                 "x [T, I], w [O, I] and y [T, O] must agree");
  }
  if (kind == EagerKind::kRowScale) {
    return agree(v.out(0).shape.elements() % v.in(0).shape.rows() == 0,
                 "there must be as many values for each row, one for each of its heads");
  }
  if (kind == EagerKind::kEmbedding) {
    return agree(v.out(0).shape.rows() == v.in(0).shape.elements(),
                 "there must be one value a row");
  }
  const bool fits = !is_elementwise(kind) || v.in(0).shape.elements() == v.out(0).shape.elements();
  return agree(fits, "x and y must have one size");
}

std::string check_backward(const OpView&) { return {}; }

Flops flops(const OpView& v) {
  const auto& a = v.attributes<EagerAttributes>();
  return flops_per_element(v.out(0), a.inner > 0 ? 2.0 * static_cast<double>(a.inner) : 1.0);
}

// A product costs as much again for the gradient of each input.
Flops flops_backward(const OpView& v) {
  const auto& a = v.attributes<EagerAttributes>();
  double gradients = 0;
  for (const Operand& out : v.instruction.out) gradients += out ? 1 : 0;
  const double forward = a.inner > 0 ? 2.0 * static_cast<double>(a.inner) : 1.0;
  return v.instruction.in.empty() ? Flops{} : flops_per_element(v.in(0), forward * gradients);
}

Scratch workspace(const OpView& v, const Machine& machine) {
  const auto& a = v.attributes<EagerAttributes>();
  const bool product = a.kind == EagerKind::kLinear || a.kind == EagerKind::kMatmul;
  if (!product || machine.backend != Backend::kCuda) return {};
  return product_scratch(v, machine, 0, 0, 0, DType::kBf16);
}

// Autograd hands the gradient of a sum on to both sides, as the same tensor where the types are
// equal.
void differentiate_add(const Instruction& forward, Operand dy, Backward& backward) {
  for (const Operand& x : forward.in) {
    if (!backward.needs_gradient(x)) continue;
    const bool same_type =
        backward.program().tensor(x).dtype == backward.program().tensor(dy).dtype;
    if (same_type && !backward.gradient(x)) {
      backward.share(x, forward.out[0]);
      continue;
    }
    Instruction instruction{.op = Op::kEagerBackward, .attributes = forward.attributes, .in = {dy}};
    backward.contribute(instruction, x, "d term");
    backward.emit(instruction);
  }
}

// Operands that the gradients of the inputs which have one need.
std::uint8_t needed(const Instruction& forward, const EagerAttributes& attributes,
                    const Backward& backward) {
  std::uint8_t mask = 0;
  for (int i = 0; i < forward.in.size(); ++i) {
    if (backward.needs_gradient(forward.in[i]))
      mask |= attributes.saves[static_cast<std::size_t>(i)];
  }
  return mask;
}

void differentiate(const Instruction& forward, Backward& backward) {
  const auto attributes = backward.program().attributes_of<EagerAttributes>(forward);
  const bool begins = attributes.kind == EagerKind::kNllLoss;
  const Operand dy = begins ? Operand{} : backward.gradient(forward.out[0]);
  if (!dy && !begins) return;
  if (attributes.kind == EagerKind::kAdd) return differentiate_add(forward, dy, backward);
  const std::uint8_t mask = needed(forward, attributes, backward);
  Instruction instruction{.op = Op::kEagerBackward, .attributes = forward.attributes};
  if (dy) instruction.in.push_back(dy);
  for (int i = 0; i < forward.in.size(); ++i) {
    if ((mask & saved_in(i)) != 0) instruction.in.push_back(backward.keep(forward.in[i]));
  }
  for (int i = 0; i < forward.out.size(); ++i) {
    if ((mask & saved_out(i)) != 0) instruction.in.push_back(backward.keep(forward.out[i]));
  }
  bool any = false;
  for (int i = 0; i < forward.in.size(); ++i) {
    any |= backward.needs_gradient(forward.in[i]);
    backward.contribute(instruction, forward.in[i], "d eager input");
  }
  if (any) backward.emit(instruction);
}

}  // namespace

const char* name_of(EagerKind kind) {
  static constexpr const char* kNames[] = {
      "embedding", "linear",    "matmul",  "add",         "mul",           "scale",
      "to",        "row_scale", "silu",    "rotate_half", "rotary_tables", "repeat_heads",
      "softmax",   "sdpa",      "dropout", "contiguous",  "log_softmax",   "nll_loss"};
  return kNames[static_cast<std::size_t>(kind)];
}

OpRow eager_row() {
  return {.name = "eager",
          .check = check,
          .flops = flops,
          .scratch = workspace,
          .differentiate = differentiate};
}

OpRow eager_backward_row() {
  return {.name = "eager_backward",
          .check = check_backward,
          .flops = flops_backward,
          .scratch = workspace};
}

}  // namespace ftplan::program

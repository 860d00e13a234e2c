#include "program/ops/loss.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/machine.h"
#include "core/units.h"
#include "program/attributes.h"
#include "program/backward.h"
#include "program/op_table.h"
#include "program/ops/checks.h"
#include "program/ops/linear.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

bool fits(const Tensor& h, const Tensor& w, const Tensor& targets, const Tensor& logits,
          const Tensor& loss) {
  return h.shape.width() == w.shape.width() && targets.shape.elements() == h.shape.rows() &&
         logits.shape.width() == w.shape[0] && logits.dtype == h.dtype && h.dtype == w.dtype &&
         loss.dtype == DType::kF64;
}

std::string check_training(const OpView& v) {
  const bool dw = !v.has_out(1) || v.out(1).shape == v.in(0).shape;
  return agree(dw && fits(v.update(0), v.in(0), v.in(1), v.out(0), v.update(1)),
               "h, w, targets, a chunk of logits and dw must agree");
}
std::string check_loss(const OpView& v) {
  return agree(fits(v.in(0), v.in(1), v.in(2), v.out(0), v.update(0)),
               "h, w, targets and a chunk of logits must agree");
}

Flops products(const Tensor& h, const Tensor& w, double count) {
  return {count * 2.0 * static_cast<double>(h.shape.rows()) *
          static_cast<double>(w.shape.elements())};
}
Flops flops_training(const OpView& v) {
  return products(v.update(0), v.in(0), v.has_out(1) ? 3 : 2);
}
Flops flops_loss(const OpView& v) { return products(v.in(0), v.in(1), 1); }

enum class Backwards : bool { kNo, kYes };

// The most of a chunk's products, of the losses of its rows, and of the same for the shorter chunk
// at the end.
Scratch scratch_of(const OpView& v, const Machine& machine, const Tensor& h, const Tensor& w,
                   Backwards backwards) {
  const std::int64_t chunk = v.attributes<LossAttributes>().chunk;
  const std::int64_t rows = h.shape.rows();
  Scratch most{.bytes = chunk * size_of(DType::kF64)};
  const auto add = [&](std::int64_t m, std::int64_t n, std::int64_t k) {
    const Scratch product = product_scratch(v, machine, m, n, k, w.dtype);
    most = {std::max(most.bytes, product.bytes), most.exact && product.exact};
  };
  for (const std::int64_t count : {std::min(chunk, rows), rows % chunk}) {
    if (count == 0) continue;
    add(count, w.shape[0], w.shape[1]);
    if (backwards == Backwards::kNo) continue;
    add(count, w.shape[1], w.shape[0]);
    if (v.has_out(1)) add(w.shape[0], w.shape[1], count);
  }
  return most;
}

Scratch scratch_training(const OpView& v, const Machine& machine) {
  return scratch_of(v, machine, v.update(0), v.in(0), Backwards::kYes);
}
Scratch scratch_loss(const OpView& v, const Machine& machine) {
  return scratch_of(v, machine, v.in(0), v.in(1), Backwards::kNo);
}

// h already is its gradient, and the head's gradient was made with it.
void differentiate(const Instruction& forward, Backward& backward) {
  backward.set_gradient(forward.update[0], forward.update[0]);
}

}  // namespace

OpRow linear_cross_entropy_row() {
  return {.name = "linear_cross_entropy",
          .check = check_training,
          .flops = flops_training,
          .scratch = scratch_training,
          .differentiate = differentiate};
}
OpRow linear_loss_row() {
  return {.name = "linear_loss", .check = check_loss, .flops = flops_loss, .scratch = scratch_loss};
}

}  // namespace ftplan::program

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

// An adapter of the head.
bool adapts(const Tensor& h, const Tensor& w, const Tensor& b, const Tensor& inner) {
  return b.shape.rank() == 2 && b.shape[0] == w.shape[0] && b.shape[1] == inner.shape.width() &&
         inner.shape.rows() == h.shape.rows() && b.dtype == w.dtype && inner.dtype == h.dtype;
}

std::string check_training(const OpView& v) {
  const bool dw = !v.has_out(1) || v.out(1).shape == v.in(0).shape;
  const bool adapter = !v.has_in(2) || (adapts(v.update(0), v.in(0), v.in(2), v.update(2)) &&
                                        (!v.has_out(2) || v.out(2).shape == v.in(2).shape));
  return agree(adapter && dw && fits(v.update(0), v.in(0), v.in(1), v.out(0), v.update(1)),
               "h, w, targets, a chunk of logits, dw, b, db and inner must agree");
}
std::string check_loss(const OpView& v) {
  const bool adapter = !v.has_in(3) || adapts(v.in(0), v.in(1), v.in(3), v.in(4));
  return agree(adapter && fits(v.in(0), v.in(1), v.in(2), v.out(0), v.update(0)),
               "h, w, targets, a chunk of logits, b and inner must agree");
}

Flops products(const Tensor& h, const Tensor& w, double count) {
  return {count * 2.0 * static_cast<double>(h.shape.rows()) *
          static_cast<double>(w.shape.elements())};
}
Flops flops_training(const OpView& v) {
  const Flops flops = products(v.update(0), v.in(0), v.has_out(1) ? 3 : 2);
  if (!v.has_in(2)) return flops;
  return flops + products(v.update(2), v.in(2), v.has_out(2) ? 3 : 2);
}
Flops flops_loss(const OpView& v) {
  const Flops flops = products(v.in(0), v.in(1), 1);
  return v.has_in(3) ? flops + products(v.in(4), v.in(3), 1) : flops;
}

enum class Backwards : bool { kNo, kYes };

// The most of a chunk's products, of the losses of its rows, and of the same for the shorter chunk
// at the end.
Scratch scratch_of(const OpView& v, const Machine& machine, const Tensor& h, const Tensor& w,
                   const Tensor* b, Backwards backwards) {
  const std::int64_t chunk = v.attributes<LossAttributes>().chunk;
  const std::int64_t rows = h.shape.rows();
  Scratch most{.bytes = chunk * size_of(DType::kF64)};
  const auto add = [&](std::int64_t m, std::int64_t n, std::int64_t k) {
    const Scratch product = product_scratch(v, machine, m, n, k, w.dtype);
    most = {std::max(most.bytes, product.bytes), most.exact && product.exact};
  };
  const auto add_products = [&](const Tensor& weight, std::int64_t count, bool learns) {
    add(count, weight.shape[0], weight.shape[1]);
    if (backwards == Backwards::kNo) return;
    add(count, weight.shape[1], weight.shape[0]);
    if (learns) add(weight.shape[0], weight.shape[1], count);
  };
  for (const std::int64_t count : {std::min(chunk, rows), rows % chunk}) {
    if (count == 0) continue;
    add_products(w, count, v.has_out(1));
    if (b != nullptr) add_products(*b, count, v.has_out(2));
  }
  return most;
}

Scratch scratch_training(const OpView& v, const Machine& machine) {
  return scratch_of(v, machine, v.update(0), v.in(0), v.has_in(2) ? &v.in(2) : nullptr,
                    Backwards::kYes);
}
Scratch scratch_loss(const OpView& v, const Machine& machine) {
  return scratch_of(v, machine, v.in(0), v.in(1), v.has_in(3) ? &v.in(3) : nullptr, Backwards::kNo);
}

// h and inner already are their gradients, and those of head and b were made with them.
void differentiate(const Instruction& forward, Backward& backward) {
  backward.set_gradient(forward.update[0], forward.update[0]);
  if (forward.update.size() > 2) backward.set_gradient(forward.update[2], forward.update[2]);
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

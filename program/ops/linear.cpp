#include "program/ops/linear.h"

#include <algorithm>
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
#include "program/step_program.h"

namespace ftplan::program {
namespace {

bool is_product(const Tensor& x, const Tensor& w, const Tensor& y) {
  return w.shape.rank() == 2 && x.shape.width() == w.shape[1] && y.shape.width() == w.shape[0] &&
         x.shape.rows() == y.shape.rows() && x.dtype == w.dtype && y.dtype == w.dtype;
}

std::string check(const OpView& v) {
  const bool bias = !v.has_in(2) || v.in(2).shape.elements() == v.in(1).shape[0];
  return agree(bias && is_product(v.in(0), v.in(1), v.out(0)),
               "x [T, I], w [O, I] and y [T, O] must agree");
}
std::string check_accumulate(const OpView& v) {
  return agree(is_product(v.in(0), v.in(1), v.update(0)),
               "x [T, I], w [O, I] and y [T, O] must agree");
}
std::string check_input_gradient(const OpView& v) {
  return agree(is_product(v.out(0), v.in(1), v.in(0)),
               "dy [T, O], w [O, I] and dx [T, I] must agree");
}
std::string check_weight_gradient(const OpView& v) {
  const Tensor& dy = v.in(0);
  const Tensor& x = v.in(1);
  const Tensor& dw = v.out(0);
  return agree(dw.shape.rank() == 2 && dw.shape[0] == dy.shape.width() &&
                   dw.shape[1] == x.shape.width() && x.shape.rows() == dy.shape.rows() &&
                   x.dtype == dy.dtype && (dw.dtype == x.dtype || dw.dtype == DType::kF32),
               "dy [T, O], x [T, I] and dw [O, I] must agree");
}
std::string check_bias_gradient(const OpView& v) {
  return agree(v.out(0).shape.elements() == v.in(0).shape.width(), "db must have dy's width");
}

Flops product(const Tensor& rows, const Tensor& weight) {
  return {2.0 * static_cast<double>(rows.shape.rows()) *
          static_cast<double>(weight.shape.elements())};
}
Flops flops(const OpView& v) { return product(v.in(0), v.in(1)); }
Flops flops_weight_gradient(const OpView& v) { return product(v.in(0), v.out(0)); }
Flops flops_bias(const OpView& v) { return flops_per_element(v.in(0), 1); }

Scratch scratch(const OpView& v, const Machine& machine) {
  const Tensor& w = v.in(1);
  return product_scratch(v, machine, v.in(0).shape.rows(), w.shape[0], w.shape[1], w.dtype);
}
Scratch scratch_input_gradient(const OpView& v, const Machine& machine) {
  const Tensor& w = v.in(1);
  return product_scratch(v, machine, v.in(0).shape.rows(), w.shape[1], w.shape[0], w.dtype);
}
Scratch scratch_weight_gradient(const OpView& v, const Machine& machine) {
  const Tensor& dw = v.out(0);
  return product_scratch(v, machine, dw.shape[0], dw.shape[1], v.in(0).shape.rows(), v.in(0).dtype);
}
Scratch scratch_bias(const OpView& v, const Machine& machine) {
  return {machine.threads * v.in(0).shape.width() * size_of(DType::kF32)};
}

// Weight and bias gradients, then the input's: `scale` is that of the product.
void differentiate_product(const Instruction& forward, Operand y, AttributesId attributes,
                           Backward& backward) {
  const Operand dy = backward.gradient(y);
  if (!dy) return;
  const Operand x = forward.in[0];
  const Operand w = forward.in[1];
  if (backward.needs_gradient(w)) {
    backward.recall(x, [&backward, dy, w, attributes](Operand again) {
      Instruction instruction{
          .op = Op::kLinearWeightGradient, .attributes = attributes, .in = {dy, again}};
      backward.contribute(instruction, w, "d weight");
      backward.emit(instruction);
    });
  }
  if (!backward.needs_gradient(x)) return;
  backward.recall(w, [&backward, dy, x, attributes](Operand weight) {
    Instruction instruction{
        .op = Op::kLinearInputGradient, .attributes = attributes, .in = {dy, weight}};
    backward.contribute(instruction, x, "d linear input");
    backward.emit(instruction);
  });
}

void differentiate(const Instruction& forward, Backward& backward) {
  const Operand y = forward.out[0];
  const bool biased = forward.in.size() > 2 && backward.needs_gradient(forward.in[2]);
  if (biased && backward.gradient(y)) {
    Instruction instruction{.op = Op::kBiasGradient, .in = {backward.gradient(y)}};
    backward.contribute(instruction, forward.in[2], "d bias");
    backward.emit(instruction);
  }
  const AttributesId unscaled = backward.emitter().attributes(LinearAttributes{});
  differentiate_product(forward, y, unscaled, backward);
}

void differentiate_accumulate(const Instruction& forward, Backward& backward) {
  differentiate_product(forward, forward.update[0], forward.attributes, backward);
}

}  // namespace

Scratch product_scratch(const OpView& view, const Machine& machine, std::int64_t m, std::int64_t n,
                        std::int64_t k, DType dtype) {
  if (machine.backend == Backend::kCuda) {
    // cuBLAS's workspace, one per handle: `:4096:2:16:8`.
    // @source PyTorch 2.11 aten/src/ATen/cuda/CublasHandlePool.cpp, getChosenWorkspaceSize
    return {.bytes = {8'519'680}, .exact = false};
  }
  if (dtype == DType::kF32) return {};
  if (dtype == DType::kF16 || !machine.native_bf16) {
    return {machine.threads * product_blocks(m, n, k, machine.threads).floats *
            size_of(DType::kF32)};
  }
  if (!machine.scratch.empty()) {
    const MeasuredScratch* measured = find_scratch(machine, scratch_key(view));
    if (measured != nullptr) return {measured->bytes};
  }
  // oneDNN may reorder both factors and accumulate the product in f32 beside it.
  const std::int64_t reordered =
      2 * (round_up(m, 64) * round_up(k, 64) + round_up(k, 64) * round_up(n, 64));
  const std::int64_t accumulated = 4 * round_up(m, 64) * round_up(n, 64);
  return {.bytes = Bytes{reordered + accumulated} + kMiB, .exact = false};
}

ProductBlocks product_blocks(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t threads) {
  // All three blocks stay within a second-level cache of 2 MiB.
  ProductBlocks blocks{std::min<std::int64_t>(m, 256), std::min<std::int64_t>(n, 256),
                       std::min<std::int64_t>(k, 512)};
  split_for_threads(blocks, m, n, threads);
  blocks.floats = (blocks.rows + blocks.columns) * blocks.depth + blocks.rows * blocks.columns;
  return blocks;
}

ProductBlocks packed_blocks(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t threads,
                            DType dtype) {
  if (dtype != DType::kF32) return product_blocks(m, n, k, threads);
  // A block of the weight is made once for all rows.
  ProductBlocks blocks{m, std::min<std::int64_t>(n, 256), std::min<std::int64_t>(k, 512)};
  split_for_threads(blocks, m, n, threads);
  blocks.floats = blocks.columns * blocks.depth;
  return blocks;
}

Scratch packed_scratch(const OpView& view, const Machine& machine) {
  const Tensor& a = view.in(0);
  const std::int64_t k = a.shape.width();
  const std::int64_t n = view.out(0).shape.width();
  if (machine.backend == Backend::kCuda) {
    const Scratch product = product_scratch(view, machine, a.shape.rows(), n, k, a.dtype);
    return {.bytes = n * k * size_of(a.dtype) + product.bytes, .exact = false};
  }
  const ProductBlocks blocks = packed_blocks(a.shape.rows(), n, k, machine.threads, a.dtype);
  return {machine.threads * blocks.floats * size_of(DType::kF32)};
}

void split_for_threads(ProductBlocks& blocks, std::int64_t m, std::int64_t n,
                       std::int64_t threads) {
  const auto parts = [](std::int64_t count, std::int64_t size) {
    return (count + size - 1) / size;
  };
  while (parts(m, blocks.rows) * parts(n, blocks.columns) < 2 * threads &&
         std::max(blocks.rows, blocks.columns) > 64) {
    std::int64_t& longer = blocks.rows > blocks.columns ? blocks.rows : blocks.columns;
    longer = (longer + 1) / 2;
  }
}

OpRow linear_row() {
  return {.name = "linear",
          .check = check,
          .flops = flops,
          .scratch = scratch,
          .differentiate = differentiate};
}

OpRow linear_accumulate_row() {
  return {.name = "linear_accumulate",
          .check = check_accumulate,
          .flops = flops,
          .scratch = scratch,
          .differentiate = differentiate_accumulate};
}

OpRow linear_input_gradient_row() {
  return {.name = "linear_input_gradient",
          .check = check_input_gradient,
          .flops = flops,
          .scratch = scratch_input_gradient};
}

OpRow linear_weight_gradient_row() {
  return {.name = "linear_weight_gradient",
          .check = check_weight_gradient,
          .flops = flops_weight_gradient,
          .scratch = scratch_weight_gradient};
}

OpRow bias_gradient_row() {
  return {.name = "bias_gradient",
          .check = check_bias_gradient,
          .flops = flops_bias,
          .scratch = scratch_bias};
}

}  // namespace ftplan::program

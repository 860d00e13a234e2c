#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/machine.h"
#include "program/op_table.h"

/// Matrix products with a weight stored [out, in], as checkpoints have it.
///
/// Shapes   x_TI, w_OI (bias_O) -> y_TO                T tokens, I in, O out
/// Keeps    x when the weight is trained; nothing for a frozen one
/// Scratch  f32: none (MKL packs outside the allocator); bf16 on CPU: oneDNN's, measured per shape,
/// where the
///          processor has units for bf16; else blocks of f32 copies for each thread
namespace ftplan::program {

/// in {x, w, bias?}, out {y}
OpRow linear_row();
/// in {x, w}, update {y}: y += scale * x w^T; LinearAttributes
OpRow linear_accumulate_row();
/// in {dy, w}, out {dx}: dx (+)= scale * dy w; LinearAttributes
OpRow linear_input_gradient_row();
/// in {dy, x}, out {dw}: dw (+)= scale * dy^T x; dw may be f32 where dy and x are bf16;
/// LinearAttributes
OpRow linear_weight_gradient_row();
/// in {dy}, out {db}: db (+)= column sums of dy
OpRow bias_gradient_row();

/// Scratch of one product of [m, k] by [k, n] in `dtype`, given as its instruction.
Scratch product_scratch(const OpView& view, const Machine& machine, std::int64_t m, std::int64_t n,
                        std::int64_t k, DType dtype);

/// Blocks in which a CPU without units for bf16 computes a 16-bit product: both factors are widened
/// to f32, and the result is rounded once.
struct ProductBlocks {
  std::int64_t rows = 0;     ///< of m
  std::int64_t columns = 0;  ///< of n
  std::int64_t depth = 0;    ///< of k
  std::int64_t floats = 0;   ///< of one thread
};
ProductBlocks product_blocks(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t threads);
/// The same where the right factor is unpacked by blocks: in f32 only those are copies.
ProductBlocks packed_blocks(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t threads,
                            DType dtype);
/// Scratch of a product of in[0] with a packed weight, whose result is out[0]: its blocks; on GPUs
/// the whole weight.
Scratch packed_scratch(const OpView& view, const Machine& machine);
/// Halves rows or columns until an [m, n] result has two parts for each thread, as long as a block
/// is worth its copies.
void split_for_threads(ProductBlocks& blocks, std::int64_t m, std::int64_t n, std::int64_t threads);

}  // namespace ftplan::program

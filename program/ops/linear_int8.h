#pragma once

#include <cstdint>

#include "program/op_table.h"
#include "program/ops/linear.h"

/// Matrix products with a frozen weight that is stored as in LLM.int8, see `models/int8.h`.
///
/// The input's rows are quantized, too, so that the product is one of integers; columns of the
/// input that have an outlier in any row are multiplied as they are, with the weight's values.
/// The gradient is that of a product with the weight's values.
///
/// Shapes   x_TI, codes w_OI and scales_O (bias_O) -> y_TO            T tokens, I in, O out
/// Keeps    nothing
/// Scratch  CPU: a scale for each token, 5 bytes for each input, and for each thread blocks of both
///          factors and of the sum, whatever the number of outliers; backward blocks as of NF4.
///          CUDA: as bitsandbytes has it, the input's codes and the sum of integers, backward the
///          whole weight in the compute type; a formula.
/// @source Dettmers et al. 2022, arXiv:2208.07339, equation 8; bitsandbytes 0.50.0
///   autograd/_functions.py, MatMul8bitLt
namespace ftplan::program {

/// in {x, codes, scales, bias?}, out {y}; Int8Attributes
OpRow linear_int8_row();
/// in {dy, codes, scales}, out {dx}: dx (+)= dy w
OpRow linear_int8_input_gradient_row();

/// Blocks of an [m, n] product of k terms, with a sum of floats and one of integers.
/// Sums of `depth` products of codes are exact in f32.
ProductBlocks int8_blocks(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t threads);

/// Floats of scratch beside the blocks: rows' scales, outlier columns, and a byte for each column.
constexpr std::int64_t int8_marks(std::int64_t tokens, std::int64_t inputs) {
  return tokens + inputs + (inputs + 3) / 4;
}

}  // namespace ftplan::program

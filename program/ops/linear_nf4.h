#pragma once

#include "program/op_table.h"

/// Matrix products with a frozen weight that is stored as NF4, see `models/nf4.h`.
///
/// Shapes   x_TI, packed w_OI and its scales (bias_O) -> y_TO        T tokens, I in, O out
/// Keeps    nothing
/// Scratch  CPU: a block of the weight as f32 for each thread, in bf16 also of the other factor and
///          of the result; never the whole weight, forward or backward. CUDA: the whole weight in
///          the compute type, as bitsandbytes has it, and cuBLAS's workspace; a formula.
/// The weight's values are rounded to the compute type before they are multiplied.
/// @source Dettmers et al. 2023, arXiv:2305.14314, equation 5; bitsandbytes 0.50.0
///   autograd/_functions.py, MatMul4Bit
namespace ftplan::program {

/// in {x, packed, absmax, nested?, offset?, bias?}, out {y}
OpRow linear_nf4_row();
/// in {dy, packed, absmax, nested?, offset?}, out {dx}: dx (+)= dy w
OpRow linear_nf4_input_gradient_row();

}  // namespace ftplan::program

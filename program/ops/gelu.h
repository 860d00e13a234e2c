#pragma once

#include "program/op_table.h"

/// `a = x * Phi(x)`, Phi the cumulative normal distribution.
///
/// Shapes   x_TF -> a_TF
/// Keeps    x: T*F values; the backward overwrites it with its gradient and yields a in da's bytes
/// Scratch  none
/// @source  Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2
namespace ftplan::program {

/// in {x}, out {a}
OpRow gelu_row();
/// update {da, x}: da becomes a, x becomes dx
OpRow gelu_backward_row();

}  // namespace ftplan::program

#pragma once

#include "program/op_table.h"

/// LayerNorm over the last dimension: `y = (x - mean) / std * w + b`, `std = sqrt(variance + eps)`.
///
/// Shapes   x_TH, w_H, b_H (x's type, or f32) -> y_TH, moments_T2 (f32: mean, 1/std)
/// Keeps    x and the moments for the backward: T*H values and 8*T bytes; y is had again by
///          kLayerNormApply
/// Scratch  none forward; backward 8*threads*H bytes for the gradients of w and b (CPU)
/// @source  Ba et al. 2016, arXiv:1607.06450, equation 3
namespace ftplan::program {

/// in {x, w, b}, out {y, moments}; NormAttributes
OpRow layer_norm_row();
/// in {x, w, b, moments}, out {y}; NormAttributes
OpRow layer_norm_apply_row();
/// in {dy, x, w, moments}, out {dx, dw, db}, each may be absent; dx may be dy's bytes;
/// NormAttributes
OpRow layer_norm_backward_row();

}  // namespace ftplan::program

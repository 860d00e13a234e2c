#pragma once

#include "program/op_table.h"

/// RMSNorm over the last dimension: `y = x / rms(x) * w`, `rms(x) = sqrt(mean(x^2) + eps)`. A
/// weight narrower than a row norms each of the row's heads on its own, with an inv_rms for each.
/// With an offset w is the offset plus the weight.
///
/// Shapes   x_TH, w_H (x's type, or f32) -> y_TH, inv_rms_T (f32)          T tokens, H hidden
/// Keeps    x and inv_rms for the backward: T*H values and 4*T bytes; y is had again by
///          kRmsNormApply
/// Scratch  none forward; backward 4*threads*H bytes for the weight's gradient (CPU)
/// @source  Zhang and Sennrich 2019, arXiv:1910.07467, equation 4
namespace ftplan::program {

/// in {x, w}, out {y, inv_rms}; NormAttributes
OpRow rms_norm_row();
/// in {x, w, inv_rms}, out {y}; NormAttributes
OpRow rms_norm_apply_row();
/// in {dy, x, w, inv_rms}, out {dx, dw}, each may be absent; dx may be dy's bytes; NormAttributes
OpRow rms_norm_backward_row();

}  // namespace ftplan::program

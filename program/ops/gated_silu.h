#pragma once

#include "program/op_table.h"

/// SwiGLU: `a = silu(g) * u`.
///
/// Shapes   g_TF, u_TF -> a_TF
/// Keeps    g and u: 2*T*F values; the backward overwrites them with their gradients and yields a
/// in da's bytes Scratch  none
/// @source  Shazeer 2020, arXiv:2002.05202, equation 5
namespace ftplan::program {

/// in {g, u}, out {a}
OpRow gated_silu_row();
/// update {da, g, u}: da becomes a, g becomes dg, u becomes du
OpRow gated_silu_backward_row();

/// The same with gelu by tanh in silu's place.
/// @source Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2
OpRow gated_gelu_row();
OpRow gated_gelu_backward_row();

}  // namespace ftplan::program

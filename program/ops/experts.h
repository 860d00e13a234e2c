#pragma once

#include <cstdint>

#include "program/op_table.h"
#include "program/ops/linear.h"
#include "program/step_program.h"

/// A mixture of experts without dropped tokens: each token is sent to K of E experts, and their
/// results are added with its scores. What is sent lies in K*T rows sorted by expert, whose
/// matrices multiply slices of it: the sizes of all tensors are fixed, those of slices are data.
///
/// Shapes   logits_TE, scores_TK (f32), rows_TK (i32: where token t lies for its k-th expert),
///          ends_E (i32: behind the last row of each expert), sent_(KT)H; w_E(O*I): a row for each
///          expert's matrix [O, I]
/// Scratch  that of one product of T rows, whatever the routing
/// @source  Jiang et al. 2024, arXiv:2401.04088, section 2.1; transformers 5.23
///          `models/mixtral/modeling_mixtral.py`
namespace ftplan::program {

/// in {logits}, out {scores, rows, ends}: the K largest of softmax(logits), divided by their sum
OpRow route_row();
/// in {dscores, scores, rows, ends}, out {dlogits}
OpRow route_backward_row();

/// in {x_TH, rows}, out {sent}
OpRow dispatch_row();
/// in {dsent, rows}, out {dx}
OpRow dispatch_backward_row();

/// in {sent_(KT)I, w, ends}, out {y_(KT)O}: each row times the matrix of its expert
OpRow expert_linear_row();
/// in {dy, w, ends}, out {dx}
OpRow expert_input_gradient_row();
/// in {dy, x, ends}, out {dw}; zero for experts without rows
OpRow expert_weight_gradient_row();

/// in {y_(KT)H, scores, rows}, out {x_TH}
OpRow combine_row();
/// in {dx, scores, rows}, update {y}, out {dscores}: y becomes its gradient
OpRow combine_backward_row();

/// Blocks of a 16-bit product of any slice of x with an expert's matrix into y, and of any slices
/// of dy and x into the gradient of one.
ProductBlocks expert_blocks(const Tensor& x, const Tensor& y, std::int64_t threads);
ProductBlocks expert_gradient_blocks(const Tensor& dy, const Tensor& x, std::int64_t threads);

}  // namespace ftplan::program

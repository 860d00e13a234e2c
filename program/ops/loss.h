#pragma once

#include "program/op_table.h"

/// The head's product and cross-entropy, chunk by chunk of tokens: the logits of all tokens never
/// exist.
///
/// The gradient is that of sum / target tokens of the whole global batch, times the loss scale.
/// Targets of -100 count nothing.
///
/// With an adapter on the head, `scale * inner * b^T` is added to the logits of each chunk, and
/// inner becomes its own gradient, too.
///
/// Shapes   h_TH, w_VH, targets_T, logits_CV, b_VR, inner_TR -> loss_1 (f64, added to)
///          C tokens in a chunk
/// Keeps    nothing: forward and backward are one instruction, h becomes its own gradient
/// Scratch  8*C bytes of per-token losses, and the products'
/// @source  chunking as in Hsu et al. 2024, arXiv:2410.10989, section 3.2
namespace ftplan::program {

/// in {w, targets, b?}, out {logits, dw?, db?}, update {h, loss, inner?}; LossAttributes
OpRow linear_cross_entropy_row();
/// in {h, w, targets, b?, inner?}, out {logits}, update {loss}; LossAttributes
OpRow linear_loss_row();

}  // namespace ftplan::program

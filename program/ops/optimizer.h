#pragma once

#include "program/op_table.h"

/// Gradient norm, clipping and updates, over flat runs of values.
///
/// Shapes   g_N, w_N, master_N, m_N, v_N               N values, padded
/// Scratch  8 bytes for every 32,768 values of the norm's partial sums, added in order; on GPUs two
///          pages of the states that live on the host
/// @source  Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2; 8-bit moments Dettmers
/// et al. 2021, arXiv:2110.02861; clipping as
/// torch.nn.utils.clip_grad_norm_; sgd as torch.optim.SGD without dampening and Nesterov
namespace ftplan::program {

/// in {g}, update {sum}: sum (f64) += sum of g^2
OpRow square_sum_row();
/// in {sum}, out {coefficient (f32)}: min(1, limit / (norm + 1e-6)) / scale, where the norm is
/// sqrt(sum) / scale and the scale Scalar::kLossScale; writes Scalar::kGradientsFinite;
/// ClipAttributes
OpRow clip_row();
/// in {g, coefficient}, update {w, m, v, master?}: with a master (f32), w is its rounding;
/// AdamwAttributes
OpRow adamw_row();
/// in {g, coefficient}, update {w, codes1, codes2, scales1, scales2, master?}: AdamW whose moments
/// are 8-bit codes in blocks that begin with w, see `models/dynamic_map.h`; the padding of
/// AdamwAttributes is no tensor's and stays
OpRow adamw8bit_row();
/// in {g, coefficient}, update {w, momentum?, master?}: momentum (f32) where that of SgdAttributes
/// is not 0; with a master (f32), w is its rounding
OpRow sgd_row();

}  // namespace ftplan::program

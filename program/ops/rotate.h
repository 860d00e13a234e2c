#pragma once

#include "program/op_table.h"

/// Rotary embedding in place, first half against second half of each head.
///
/// Shapes   t_T(heads*D), table_PD (f32: cos in the first half of a row, sin in the second),
/// positions_T Keeps    nothing: the gradient is the inverse rotation
/// @source  Su et al. 2021, arXiv:2104.09864; halves as in transformers' `rotate_half`
namespace ftplan::program {

/// in {table, positions}, update {t}; RotateAttributes
OpRow rotate_row();

}  // namespace ftplan::program

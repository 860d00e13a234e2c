#pragma once

#include "core/model_config.h"
#include "program/attributes.h"
#include "program/op_table.h"

/// Rotary embedding in place, first half against second half of the leading R values of each head.
///
/// Shapes   t_T(heads*D), table_PR (f32: cos in the first half of a row, sin in the second; R <=
/// D),
///          positions_T
/// Keeps    nothing: the gradient is the inverse rotation
/// @source  Su et al. 2021, arXiv:2104.09864; halves as in transformers' `rotate_half`
namespace ftplan::program {

/// How the cosines and sines of a model come about.
RopeAttributes rope_attributes(const ModelConfig& model);

/// in {positions?}, out {table}; RopeAttributes. Without positions: all rows, for documents within
/// the original positions. With those of a micro-batch: the rows that it reads, with the
/// frequencies of its longest document.
OpRow rope_table_row();

/// in {table, positions}, update {t}; RotateAttributes
OpRow rotate_row();

}  // namespace ftplan::program

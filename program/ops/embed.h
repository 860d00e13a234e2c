#pragma once

#include "program/op_table.h"

/// Rows of a table, and the gradient that is summed back into them.
///
/// Shapes   ids_T, table_VH -> x_TH, rounded where the table is f32 and x is not
/// Keeps    nothing but the ids
/// Scratch  backward 4*threads*H bytes: each row of the gradient is summed in f32 and rounded once
/// (CPU)
namespace ftplan::program {

/// in {ids, table, token_order?}, out {x}
OpRow embed_row();
/// in {dx, ids, token_order}, out {d table}: all rows are written or added to, in the order of
/// `token_order`
OpRow embed_backward_row();

}  // namespace ftplan::program

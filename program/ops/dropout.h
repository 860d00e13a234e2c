#pragma once

#include "program/op_table.h"

/// Dropout with masks from a counter: the key of a value is (seed, step, row in the global batch,
/// position, layer, site, channel), so every layout drops the same values and nothing is kept.
///
/// Shapes   x_TI, row_ids_B -> y_TI                   B rows of T/B positions
/// Keeps    nothing: masks are made again
/// Scratch  none
namespace ftplan::program {

/// in {x, row_ids}, out {y}; DropoutAttributes
OpRow dropout_row();
/// in {dy, row_ids}, out {dx}: dx (+)= mask * dy; DropoutAttributes
OpRow dropout_backward_row();

}  // namespace ftplan::program

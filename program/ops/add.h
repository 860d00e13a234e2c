#pragma once

#include "program/op_table.h"

/// Residual connection in place: `y += x`.
///
/// Shapes   x, y equal
/// Keeps    nothing: both gradients are the output's, and share its bytes
/// Scratch  none
namespace ftplan::program {

/// in {x}, update {y}
OpRow add_row();

}  // namespace ftplan::program

#pragma once

#include "program/op_table.h"

/// Moves and conversions.
///
/// Shapes   equal
/// Keeps    nothing; a cast's gradient goes to its source in the source's precision
/// Scratch  none
namespace ftplan::program {

/// in {x}, out {y}: another element type
OpRow cast_row();
/// in {x}, out {y}: the same values
OpRow copy_row();
/// out {y}: zeros
OpRow zero_row();

}  // namespace ftplan::program

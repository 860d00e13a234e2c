#pragma once

#include "program/op_table.h"

/// Names columns of a value: nothing is computed, the parts are views of its bytes.
///
/// Shapes   y_T(A+B+...) -> a_TA, b_TB, ...
/// Backward the gradients of the parts are columns of one gradient of y, see
///          `Backward::contribute`
namespace ftplan::program {

/// in {y}, out {parts, in order}
OpRow split_row();

}  // namespace ftplan::program

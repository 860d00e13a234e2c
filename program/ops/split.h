#pragma once

#include "program/op_table.h"

/// Parts of a value that stand side by side in it, as its columns or group by group.
///
/// kSplit names columns: nothing is computed, the parts are views of the value's bytes.
/// kSplitGroups copies: y is groups of columns, and a group holds its share of each part, in order.
///
/// Shapes   y_T(A+B+...) -> a_TA, b_TB, ...
/// Backward the gradients of the parts are columns of one gradient of y, see
///          `Backward::contribute`; of groups they are joined by a copy
/// Keeps    nothing
/// Scratch  none
namespace ftplan::program {

/// in {y}, out {parts, in order}
OpRow split_row();
/// in {y}, out {parts, in order}; GroupAttributes
OpRow split_groups_row();
/// in {gradients of the parts, in order}, out {dy}; GroupAttributes
OpRow join_groups_row();

}  // namespace ftplan::program

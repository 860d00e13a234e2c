#include "program/ops/split.h"

#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/units.h"
#include "program/backward.h"
#include "program/op_table.h"
#include "program/ops/checks.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

std::string check(const OpView& v) {
  const Tensor& whole = v.in(0);
  std::int64_t columns = 0;
  for (int i = 0; i < v.instruction.out.size(); ++i) {
    const Tensor& part = v.out(i);
    const Bytes offset = whole.offset + columns * size_of(whole.dtype);
    if (part.storage != whole.storage || part.offset != offset || part.dtype != whole.dtype ||
        part.row_stride != whole.row_stride || part.shape.rows() != whole.shape.rows())
      return "the parts must be views of the columns of y, one after the other";
    columns += part.shape.width();
  }
  return agree(columns == whole.shape.width(), "the parts must fill y");
}

// The gradient of y is where those of its parts are.
void differentiate(const Instruction& /*forward*/, Backward& /*backward*/) {}

}  // namespace

OpRow split_row() {
  return {.name = "split",
          .check = check,
          .flops = no_flops,
          .scratch = no_scratch,
          .differentiate = differentiate};
}

}  // namespace ftplan::program

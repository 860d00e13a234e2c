#include "program/ops/split.h"

#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/units.h"
#include "program/attributes.h"
#include "program/backward.h"
#include "program/op.h"
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

// `whole` is made of `parts`, the same share of each in each group.
std::string check_groups(const OpView& v, const Tensor& whole, const Operands& parts) {
  const std::int64_t groups = v.attributes<GroupAttributes>().groups;
  std::int64_t columns = 0;
  for (const Operand& operand : parts) {
    const Tensor& part = v.program.tensor(operand);
    if (part.dtype != whole.dtype || part.shape.rows() != whole.shape.rows() ||
        part.shape.width() % groups != 0)
      return "the parts must have y's type and rows, and as many columns in each group";
    columns += part.shape.width();
  }
  return agree(columns == whole.shape.width(), "the parts must fill y");
}

std::string check_split_groups(const OpView& v) {
  return check_groups(v, v.in(0), v.instruction.out);
}
std::string check_join_groups(const OpView& v) {
  return check_groups(v, v.out(0), v.instruction.in);
}

void differentiate_groups(const Instruction& forward, Backward& backward) {
  const Operand whole = forward.in[0];
  if (!backward.needs_gradient(whole)) return;
  Instruction instruction{.op = Op::kJoinGroups, .attributes = forward.attributes};
  for (const Operand& part : forward.out) {
    const Operand gradient = backward.gradient(part);
    if (!gradient) return;
    instruction.in.push_back(gradient);
  }
  backward.contribute(instruction, whole, "d fused");
  backward.emit(instruction);
}

}  // namespace

OpRow split_groups_row() {
  return {.name = "split_groups",
          .check = check_split_groups,
          .flops = no_flops,
          .scratch = no_scratch,
          .differentiate = differentiate_groups};
}

OpRow join_groups_row() {
  return {
      .name = "join_groups", .check = check_join_groups, .flops = no_flops, .scratch = no_scratch};
}

OpRow split_row() {
  return {.name = "split",
          .check = check,
          .flops = no_flops,
          .scratch = no_scratch,
          .differentiate = differentiate};
}

}  // namespace ftplan::program

#include "program/ops/transfer.h"

#include <string>

#include "core/dtype.h"
#include "core/machine.h"
#include "models/nf4.h"
#include "program/attributes.h"
#include "program/op_table.h"
#include "program/ops/checks.h"

namespace ftplan::program {
namespace {

std::string check_any(const OpView&) { return {}; }

std::string check_load_nf4(const OpView& v) {
  return agree(v.has_out(2) == v.has_out(3) &&
                   v.out(0).shape.elements() <= models::kNf4Block / 2 * v.out(1).shape.elements(),
               "packed values and the scales of their blocks must agree");
}
std::string check_load_int8(const OpView& v) {
  return agree(v.out(0).dtype == DType::kI8 && v.out(1).dtype == DType::kF32 &&
                   v.out(0).shape.elements() % v.out(1).shape.elements() == 0,
               "codes and the scales of their rows must agree");
}

Scratch scratch_load_nf4(const OpView& v, const Machine&) {
  const bool twice = v.has_out(2) && !v.attributes<FileAttributes>().quantized;
  return twice ? Scratch{v.out(1).shape.elements() * size_of(DType::kF32)} : Scratch{};
}

OpRow transfer(const char* name) {
  return {.name = name, .check = check_any, .flops = no_flops, .scratch = no_scratch};
}

}  // namespace

OpRow batch_row() { return transfer("batch"); }
OpRow load_row() { return transfer("load"); }
OpRow load_nf4_row() {
  OpRow row = transfer("load_nf4");
  row.check = check_load_nf4;
  row.scratch = scratch_load_nf4;
  return row;
}
OpRow load_int8_row() {
  OpRow row = transfer("load_int8");
  row.check = check_load_int8;
  return row;
}
OpRow init_adapter_row() { return transfer("init_adapter"); }
OpRow store_row() { return transfer("store"); }

}  // namespace ftplan::program

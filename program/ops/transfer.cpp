#include "program/ops/transfer.h"

#include <string>

#include "core/dtype.h"
#include "program/attributes.h"
#include "program/op_table.h"
#include "program/ops/checks.h"

namespace ftplan::program {
namespace {

std::string check_any(const OpView&) { return {}; }
std::string check_rope_table(const OpView& v) {
  return agree(v.out(0).dtype == DType::kF32 &&
                   v.out(0).shape.width() == v.attributes<RopeAttributes>().head_size,
               "the table must be f32 with head_size columns");
}

OpRow transfer(const char* name) {
  return {.name = name, .check = check_any, .flops = no_flops, .scratch = no_scratch};
}

}  // namespace

OpRow batch_row() { return transfer("batch"); }
OpRow rope_table_row() {
  OpRow row = transfer("rope_table");
  row.check = check_rope_table;
  return row;
}
OpRow load_row() { return transfer("load"); }
OpRow init_adapter_row() { return transfer("init_adapter"); }

}  // namespace ftplan::program

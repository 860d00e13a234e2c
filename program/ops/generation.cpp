#include "program/ops/generation.h"

#include <string>

#include "core/dtype.h"
#include "core/units.h"
#include "program/attributes.h"
#include "program/op_table.h"
#include "program/ops/checks.h"

namespace ftplan::program {
namespace {

std::string check_append(const OpView& v) {
  const auto& a = v.attributes<AttentionAttributes>();
  return agree(
      v.in(0).shape.rows() == a.rows * a.sequence && v.update(0).shape.rows() == a.rows * a.cache &&
          v.in(0).shape.width() == v.update(0).shape.width() && v.in(0).dtype == v.update(0).dtype,
      "values and cache must agree in rows, width and type");
}
std::string check_take_last(const OpView& v) {
  const auto& a = v.attributes<AttentionAttributes>();
  return agree(v.in(0).shape.rows() == a.rows * a.sequence && v.out(0).shape.rows() == a.rows &&
                   v.in(0).shape.width() == v.out(0).shape.width() &&
                   v.in(0).dtype == v.out(0).dtype,
               "the result must have one row for each sequence");
}
std::string check_argmax(const OpView& v) {
  return agree(v.out(0).dtype == DType::kI32 && v.out(0).shape.elements() == v.in(0).shape.rows(),
               "the result must be one i32 a row");
}
Flops flops_argmax(const OpView& v) { return flops_per_element(v.in(0), 1); }

}  // namespace

OpRow append_cache_row() {
  return {.name = "append_cache", .check = check_append, .flops = no_flops, .scratch = no_scratch};
}
OpRow take_last_row() {
  return {.name = "take_last", .check = check_take_last, .flops = no_flops, .scratch = no_scratch};
}
OpRow argmax_row() {
  return {.name = "argmax", .check = check_argmax, .flops = flops_argmax, .scratch = no_scratch};
}

}  // namespace ftplan::program

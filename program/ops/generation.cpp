#include "program/ops/generation.h"

#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/machine.h"
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
std::string check_next_token(const OpView& v) {
  const std::int64_t rows = v.in(0).shape.rows();
  return agree(v.out(0).dtype == DType::kI32 && v.out(0).shape.elements() == rows &&
                   v.in(1).dtype == DType::kI32 && v.in(1).shape.elements() == rows,
               "row ids and the result must be one i32 a row");
}
Flops flops_next_token(const OpView& v) { return flops_per_element(v.in(0), 1); }
// A score and its index for each token.
Scratch scratch_next_token(const OpView& v, const Machine&) {
  return {v.in(0).shape.width() * Bytes{16}};
}

}  // namespace

OpRow append_cache_row() {
  return {.name = "append_cache", .check = check_append, .flops = no_flops, .scratch = no_scratch};
}
OpRow take_last_row() {
  return {.name = "take_last", .check = check_take_last, .flops = no_flops, .scratch = no_scratch};
}
OpRow next_token_row() {
  return {.name = "next_token",
          .check = check_next_token,
          .flops = flops_next_token,
          .scratch = scratch_next_token};
}

}  // namespace ftplan::program

#include "core/check.h"
#include "core/plan.h"
#include "fuzz.h"

// A plan that is read is written with the same bytes again.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto plan = ftplan::read_plan(ftplan::text_of(data, size), "fuzz");
  if (!plan) return 0;
  const std::string text = ftplan::render_plan(*plan);
  const auto again = ftplan::read_plan(text, "fuzz");
  FTPLAN_CHECK(again.ok());
  FTPLAN_CHECK(ftplan::render_plan(*again) == text);
  return 0;
}

#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/category.h"
#include "program/lifetimes.h"
#include "program/step_program.h"
#include "program/walk.h"

namespace ftplan::program {

/// Live bytes of one place by category, persistent ones included, scratch left out.
using CategoryCounts = std::array<std::int64_t, kCategories>;

/// Live bytes of `place` while each step of `walk` runs. What the left-out iterations of a sampled
/// walk add is counted.
std::vector<CategoryCounts> occupancy(const StepProgram& program, const Walk& walk,
                                      const std::vector<Life>& lives, Place place);

inline std::int64_t sum_of(const CategoryCounts& counts) {
  std::int64_t sum = 0;
  for (const std::int64_t count : counts) sum += count;
  return sum;
}

}  // namespace ftplan::program

#include "program/occupancy.h"

#include <cstddef>
#include <vector>

#include "core/category.h"
#include "program/lifetimes.h"
#include "program/step_program.h"
#include "program/walk.h"

namespace ftplan::program {

std::vector<CategoryCounts> occupancy(const StepProgram& program, const Walk& walk,
                                      const std::vector<Life>& lives, Place place) {
  const std::size_t steps = walk.steps.size();
  std::vector<CategoryCounts> begins(steps, CategoryCounts{});
  std::vector<CategoryCounts> ends(steps, CategoryCounts{});
  for (const Life& life : lives) {
    const Storage& storage = program.storages[static_cast<std::size_t>(life.storage)];
    if (storage.place != place) continue;
    const auto category = static_cast<std::size_t>(storage.category);
    begins[static_cast<std::size_t>(life.begin)][category] += accounted(storage).value;
    ends[static_cast<std::size_t>(life.end)][category] += accounted(storage).value;
  }
  CategoryCounts live{};
  for (const Storage& storage : program.storages) {
    if (storage.place != place || storage.region != Region::kPersistent) continue;
    live[static_cast<std::size_t>(storage.category)] +=
        storage.copies.count * accounted(storage).value;
  }
  std::vector<CategoryCounts> before(steps);
  std::vector<CategoryCounts> during(steps);
  for (std::size_t i = 0; i < steps; ++i) {
    const Step& step = walk.steps[i];
    for (std::size_t c = 0; c < kCategories; ++c) {
      // A left-out iteration changes what is live as the one before it did.
      if (step.skipped > 0) {
        live[c] += step.skipped * (live[c] - before[static_cast<std::size_t>(step.like)][c]);
      }
      before[i][c] = live[c];
      live[c] += begins[i][c];
      during[i][c] = live[c];
      live[c] -= ends[i][c];
    }
  }
  return during;
}

}  // namespace ftplan::program

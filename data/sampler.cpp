#include "data/sampler.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/check.h"
#include "data/mix.h"
#include "data/permutation.h"

namespace ftplan::data {

Sampler::Sampler(std::int64_t rows, std::int64_t global_batch, std::uint64_t seed, Order order)
    : rows_(rows), global_batch_(global_batch), seed_(seed), order_(order) {
  FTPLAN_CHECK(rows >= 1 && global_batch >= 1);
}

std::int64_t Sampler::steps_per_epoch() const {
  return rows_ / global_batch_ + (rows_ % global_batch_ == 0 ? 0 : 1);
}

std::vector<std::int64_t> Sampler::rows_of_step(std::int64_t step) const {
  FTPLAN_CHECK(step >= 0);
  const std::int64_t epoch = step / steps_per_epoch();
  const std::int64_t first = step % steps_per_epoch() * global_batch_;
  const std::int64_t count = std::min(global_batch_, rows_ - first);
  const std::uint64_t key = mix64(seed_ ^ mix64(static_cast<std::uint64_t>(epoch) * kGolden));
  const Permutation shuffled(rows_, key);
  std::vector<std::int64_t> chosen(static_cast<std::size_t>(count));
  for (std::int64_t slot = 0; slot < count; ++slot) {
    const std::int64_t place = first + slot;
    chosen[static_cast<std::size_t>(slot)] = order_ == Order::kShuffled ? shuffled(place) : place;
  }
  return chosen;
}

}  // namespace ftplan::data

#include "data/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/check.h"
#include "data/mix.h"
#include "data/permutation.h"

namespace ftplan::data {

namespace {

// A key of its own for each number that is drawn under `key`.
std::uint64_t key_of(std::uint64_t key, std::int64_t number) {
  return mix64(key ^ mix64(static_cast<std::uint64_t>(number) * kGolden));
}

}  // namespace

DrawnRows drawn_rows(std::int64_t rows, double weight) {
  const auto draws = std::llround(static_cast<double>(rows) * weight);
  return {rows, rows == 0 ? 0 : std::max<std::int64_t>(1, draws)};
}

Sampler::Sampler(std::int64_t rows, std::int64_t global_batch, std::uint64_t seed, Order order)
    : Sampler({DrawnRows{rows, rows}}, global_batch, seed, order) {}

Sampler::Sampler(std::vector<DrawnRows> parts, std::int64_t global_batch, std::uint64_t seed,
                 Order order)
    : parts_(std::move(parts)), global_batch_(global_batch), seed_(seed), order_(order) {
  for (const DrawnRows& part : parts_) draws_ += part.draws;
  FTPLAN_CHECK(draws_ >= 1 && global_batch >= 1);
}

std::int64_t Sampler::steps_per_epoch() const {
  return draws_ / global_batch_ + (draws_ % global_batch_ == 0 ? 0 : 1);
}

std::vector<std::int64_t> Sampler::rows_of_step(std::int64_t step) const {
  FTPLAN_CHECK(step >= 0);
  const std::int64_t epoch = step / steps_per_epoch();
  const std::int64_t first = step % steps_per_epoch() * global_batch_;
  const std::int64_t count = std::min(global_batch_, draws_ - first);
  const Permutation shuffled(draws_, key_of(seed_, epoch));
  std::vector<std::int64_t> chosen(static_cast<std::size_t>(count));
  for (std::int64_t slot = 0; slot < count; ++slot) {
    const std::int64_t place = first + slot;
    chosen[static_cast<std::size_t>(slot)] =
        row_of_draw(order_ == Order::kShuffled ? shuffled(place) : place, epoch);
  }
  return chosen;
}

std::int64_t Sampler::row_of_draw(std::int64_t draw, std::int64_t epoch) const {
  std::int64_t first_row = 0;
  std::size_t index = 0;
  while (draw >= parts_[index].draws) {
    draw -= parts_[index].draws;
    first_row += parts_[index++].rows;
  }
  const auto [rows, draws] = parts_[index];
  // Whole passes: the order of the draws is random enough.
  if (draws % rows == 0) return first_row + draw % rows;
  const std::int64_t drawn = epoch * draws + draw;
  if (order_ == Order::kAsInFile) return first_row + drawn % rows;
  const std::uint64_t its_seed = key_of(~seed_, static_cast<std::int64_t>(index));
  return first_row + Permutation(rows, key_of(its_seed, drawn / rows))(drawn % rows);
}

}  // namespace ftplan::data

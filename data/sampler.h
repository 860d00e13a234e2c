#pragma once

#include <cstdint>
#include <vector>

namespace ftplan::data {

/// Rows that follow each other, such as those of one file, and how many of them an epoch draws.
struct DrawnRows {
  std::int64_t rows = 0;
  std::int64_t draws = 0;  ///< 0 where there are no rows
};

/// `rows` drawn `weight` times as often as there are of them, at least one.
DrawnRows drawn_rows(std::int64_t rows, double weight);

/// Which rows a step learns from: a pure function of (seed, step), the same on every rank and
/// independent of micro-batches. Each epoch goes over all rows once, in an order of its own; its
/// last step holds what is left. Steps beyond the last epoch begin a next one.
///
/// With parts an epoch takes of each part as many rows as it draws, in one order over all parts.
/// Where those are no whole passes over the part, the next epoch goes on where the last one ended,
/// so that over time every row of a part comes equally often.
class Sampler {
 public:
  enum class Order : std::uint8_t { kShuffled, kAsInFile };

  /// @pre rows >= 1, global_batch >= 1
  Sampler(std::int64_t rows, std::int64_t global_batch, std::uint64_t seed, Order order);
  /// @pre at least one draw in all
  Sampler(std::vector<DrawnRows> parts, std::int64_t global_batch, std::uint64_t seed, Order order);

  [[nodiscard]] std::int64_t steps_per_epoch() const;
  /// Rows of step 0, 1, ...: the index of the row in each slot of the global batch.
  [[nodiscard]] std::vector<std::int64_t> rows_of_step(std::int64_t step) const;

 private:
  [[nodiscard]] std::int64_t row_of_draw(std::int64_t draw, std::int64_t epoch) const;

  std::vector<DrawnRows> parts_;
  std::int64_t draws_ = 0;  // of an epoch
  std::int64_t global_batch_;
  std::uint64_t seed_;
  Order order_;
};

}  // namespace ftplan::data

#pragma once

#include <cstdint>
#include <vector>

namespace ftplan::data {

/// Which rows a step learns from: a pure function of (seed, step), the same on every rank and
/// independent of micro-batches. Each epoch goes over all rows once, in an order of its own; its
/// last step holds what is left. Steps beyond the last epoch begin a next one.
class Sampler {
 public:
  enum class Order : std::uint8_t { kShuffled, kAsInFile };

  /// @pre rows >= 1, global_batch >= 1
  Sampler(std::int64_t rows, std::int64_t global_batch, std::uint64_t seed, Order order);

  [[nodiscard]] std::int64_t steps_per_epoch() const;
  /// Rows of step 0, 1, ...: the index of the row in each slot of the global batch.
  [[nodiscard]] std::vector<std::int64_t> rows_of_step(std::int64_t step) const;

 private:
  std::int64_t rows_;
  std::int64_t global_batch_;
  std::uint64_t seed_;
  Order order_;
};

}  // namespace ftplan::data

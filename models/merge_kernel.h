#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/dtype.h"

/// The arithmetic of a merge on a few rows of a weight.
namespace ftplan::models {

/// One linear's matrices, as floats. `b` is [out, rank], `a` is [rank, width].
struct LoraProduct {
  std::span<const float> a;
  std::span<const float> b;
  std::size_t rank = 0;
  std::size_t width = 0;
  float scale = 1;
};

/// rows[i] += scale * sum_k b[first_row + i, k] a[k], with the sum in f32 and scaled before it is
/// added, as PEFT does.
void add_product(const LoraProduct& product, std::size_t first_row, std::span<float> rows);

/// How many values would be infinite or NaN in `dtype`.
/// @pre `is_float(dtype)`
std::int64_t count_not_finite(std::span<const float> values, DType dtype);

}  // namespace ftplan::models

#include "models/merge_kernel.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "core/dtype.h"

namespace ftplan::models {
namespace {

// Columns whose sums stay in the first-level cache.
constexpr std::size_t kTile = 1024;

// Smallest magnitude that rounds to infinity: half a step above the largest finite number.
float overflow_limit(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return 65520.0F;
    case DType::kBf16:
      return 0x1.FFp127F;
    default:
      return std::numeric_limits<float>::infinity();
  }
}

}  // namespace

void add_product(const LoraProduct& product, std::size_t first_row, std::span<float> rows) {
  const std::size_t count = product.width == 0 ? 0 : rows.size() / product.width;
  std::array<float, kTile> sums{};
  for (std::size_t begin = 0; begin < product.width; begin += kTile) {
    const std::size_t size = std::min(kTile, product.width - begin);
    for (std::size_t row = 0; row < count; ++row) {
      const float* b = &product.b[(first_row + row) * product.rank];
      sums.fill(0);
      for (std::size_t k = 0; k < product.rank; ++k) {
        const float* a = &product.a[k * product.width + begin];
        for (std::size_t i = 0; i < size; ++i) sums[i] += b[k] * a[i];
      }
      float* out = &rows[row * product.width + begin];
      for (std::size_t i = 0; i < size; ++i) out[i] += sums[i] * product.scale;
    }
  }
}

std::int64_t count_not_finite(std::span<const float> values, DType dtype) {
  const float limit = overflow_limit(dtype);
  std::int64_t count = 0;
  for (const float value : values)
    count += std::abs(value) < limit ? 0 : 1;  // NaN is below nothing
  return count;
}

}  // namespace ftplan::models

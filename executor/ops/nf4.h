#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "executor/ops/simd.h"

/// Weights that are packed as NF4, see `models/nf4.h`.
namespace ftplan::executor::FTPLAN_ISA {

/// [rows, columns] in blocks over its row-major values.
struct Nf4Matrix {
  const std::uint8_t* packed = nullptr;
  const float* absmax = nullptr;        ///< by block, or null:
  const std::uint8_t* codes = nullptr;  ///< by block,
  const float* nested = nullptr;        ///< by block of codes,
  float offset = 0;                     ///< and what was taken away
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  DType rounded_to = DType::kF32;  ///< type that values are rounded to
};

/// [row, row + rows) x [column, column + columns) of `from`, one row after the other.
void dequantize_block(const Nf4Matrix& from, std::int64_t row, std::int64_t rows,
                      std::int64_t column, std::int64_t columns, float* to);

}  // namespace ftplan::executor::FTPLAN_ISA

#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "executor/ops/simd.h"

/// Weights that are stored as in LLM.int8, see `models/int8.h`.
namespace ftplan::executor::FTPLAN_ISA {

/// [rows, columns] in row-major order, a scale for each row.
struct Int8Matrix {
  const std::int8_t* codes = nullptr;
  const float* scales = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  DType rounded_to = DType::kF32;  ///< type that values are rounded to
};

/// [row, row + rows) x [column, column + columns) of `from`, one row after the other.
void dequantize_block(const Int8Matrix& from, std::int64_t row, std::int64_t rows,
                      std::int64_t column, std::int64_t columns, float* to);

}  // namespace ftplan::executor::FTPLAN_ISA

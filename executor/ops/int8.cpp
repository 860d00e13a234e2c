#include "executor/ops/int8.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "executor/call.h"
#include "executor/ops/packed.h"
#include "executor/ops/simd.h"
#include "executor/products.h"
#include "models/int8.h"
#include "program/attributes.h"
#include "program/ops/linear.h"
#include "program/ops/linear_int8.h"

// Note [Products of LLM.int8]
//
// Each thread makes blocks of both factors' codes as f32 and multiplies those with the f32 BLAS.
// Sums over one block's depth are below 2^24, so they are exact; they are added up as integers, so
// the result does not depend on the blocks. Columns of the input with an outlier are zero in that
// product. They are collected, block by block, and multiplied as they are with the weight's values,
// in the same places; so scratch does not depend on how many there are.
//
// This file is compiled without contraction of products and sums: what is rounded where is
// bitsandbytes'.

namespace ftplan::executor::FTPLAN_ISA {
namespace {

using program::ProductBlocks;

template <class T>
float as_f16(T value) {
  F16 half{};
  narrow(widen(value), half);
  return widen(half);
}

template <class T>
class Int8Product {
 public:
  // `marks` are what `program::int8_marks` counts.
  Int8Product(const Call& call, const Int8Matrix& w, float* marks)
      : x_(call.in[0]),
        y_(call.out[0]),
        bias_(call.in[3]),
        w_(w),
        threshold_(static_cast<float>(call.attributes<program::Int8Attributes>().threshold)),
        threads_(call.threads),
        blocks_(program::int8_blocks(x_.rows(), w.rows, w.columns, call.threads)),
        scales_(marks),
        columns_(reinterpret_cast<std::int32_t*>(marks + x_.rows())),
        is_outlier_(reinterpret_cast<std::uint8_t*>(columns_ + w.columns)) {}

  void find_outliers() {
#pragma omp parallel for schedule(static) num_threads(threads_)
    for (int part = 0; part < threads_; ++part) {
      const Part own = part_of(w_.columns, threads_, part);
      std::fill(is_outlier_ + own.begin, is_outlier_ + own.end, std::uint8_t{0});
      for (std::int64_t r = 0; r < x_.rows(); ++r) {
        const T* row = row_of<T>(x_, r);
#pragma omp simd
        for (std::int64_t i = own.begin; i < own.end; ++i)
          is_outlier_[i] = is_outlier(as_f16(row[i])) ? std::uint8_t{1} : is_outlier_[i];
      }
    }
    for (std::int64_t i = 0; i < w_.columns; ++i) {
      if (is_outlier_[i] != 0) columns_[outliers_++] = static_cast<std::int32_t>(i);
    }
  }

  // The largest magnitude of what is no outlier itself, in columns with outliers too.
  void find_scales() {
#pragma omp parallel for schedule(static) num_threads(threads_)
    for (std::int64_t r = 0; r < x_.rows(); ++r) {
      const T* row = row_of<T>(x_, r);
      float most = 0;
#pragma omp simd reduction(max : most)
      for (std::int64_t i = 0; i < w_.columns; ++i) {
        const float value = std::abs(as_f16(row[i]));
        const float counted = is_outlier(value) ? 0.0F : value;
        most = most < counted ? counted : most;
      }
      scales_[r] = most;
    }
  }

  void multiply(float* work) {
    const std::int64_t across = (w_.rows + blocks_.columns - 1) / blocks_.columns;
    const std::int64_t tasks = across * ((x_.rows() + blocks_.rows - 1) / blocks_.rows);
#pragma omp parallel num_threads(threads_)
    {
      float* own = work + thread_index() * blocks_.floats;
#pragma omp for schedule(dynamic, 1)
      for (std::int64_t task = 0; task < tasks; ++task)
        block(task / across * blocks_.rows, task % across * blocks_.columns, own);
    }
  }

 private:
  // Not a number is one, too, so that it reaches the result.
  [[nodiscard]] bool is_outlier(float x) const { return !(std::abs(x) < threshold_); }

  struct Place {
    std::int64_t row, rows, column, columns;
  };

  void block(std::int64_t row, std::int64_t column, float* work) const {
    const Place at{row, std::min(blocks_.rows, x_.rows() - row), column,
                   std::min(blocks_.columns, w_.rows - column)};
    float* left = work;
    float* right = left + blocks_.rows * blocks_.depth;
    float* sum = right + blocks_.columns * blocks_.depth;
    auto* total = reinterpret_cast<std::int32_t*>(sum + blocks_.rows * blocks_.columns);
    std::fill(total, total + at.rows * at.columns, 0);
    for (std::int64_t k = 0; k < w_.columns; k += blocks_.depth) {
      const std::int64_t count = std::min(blocks_.depth, w_.columns - k);
      quantize(at, k, count, left);
      widen_codes(at, k, count, right);
      multiply_block(at.rows, at.columns, count, 1, left, count, Transposed::kNo, right, count,
                     Transposed::kYes, 0, sum, at.columns);
#pragma omp simd
      for (std::int64_t i = 0; i < at.rows * at.columns; ++i)
        total[i] += static_cast<std::int32_t>(sum[i]);
    }
    store(at, total);
    if (outliers_ == 0) return;
    for (std::int64_t k = 0; k < outliers_; k += blocks_.depth) {
      const std::int64_t count = std::min(blocks_.depth, outliers_ - k);
      collect(at, columns_ + k, count, left, right);
      multiply_block(at.rows, at.columns, count, 1, left, count, Transposed::kNo, right, count,
                     Transposed::kYes, k == 0 ? 0 : 1, sum, at.columns);
    }
    add_to_result(at, sum);
  }

  // Codes of the input; those of columns with an outlier are 0.
  void quantize(const Place& at, std::int64_t k, std::int64_t count, float* to) const {
    for (std::int64_t r = 0; r < at.rows; ++r) {
      const T* row = row_of<T>(x_, at.row + r) + k;
      const float scale = models::int8_factor(scales_[at.row + r]);
      float* out = to + r * count;
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) {
        const float code = std::nearbyint(as_f16(row[i]) * scale);
        out[i] = is_outlier_[k + i] != 0 ? 0.0F : code;
      }
    }
  }

  void widen_codes(const Place& at, std::int64_t k, std::int64_t count, float* to) const {
    for (std::int64_t c = 0; c < at.columns; ++c) {
      const std::int8_t* codes = w_.codes + (at.column + c) * w_.columns + k;
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) to[c * count + i] = static_cast<float>(codes[i]);
    }
  }

  void store(const Place& at, const std::int32_t* total) const {
    const float* scales = w_.scales + at.column;
    for (std::int64_t r = 0; r < at.rows; ++r) {
      const float scale = scales_[at.row + r];
      T* out = row_of<T>(y_, at.row + r) + at.column;
      const std::int32_t* from = total + r * at.columns;
#pragma omp simd
      for (std::int64_t c = 0; c < at.columns; ++c)
        narrow(
            with_bias(static_cast<float>(from[c]) * (scale * scales[c]) * models::kInt8ProductStep,
                      at.column + c),
            out[c]);
    }
  }

  // The bias is added before the result is rounded.
  [[nodiscard]] float with_bias(float value, std::int64_t output) const {
    return bias_ ? value + widen(bias_.as<T>()[output]) : value;
  }

  // Columns with outliers, and the values of the weight that they are multiplied with.
  void collect(const Place& at, const std::int32_t* columns, std::int64_t count, float* left,
               float* right) const {
    for (std::int64_t r = 0; r < at.rows; ++r) {
      const T* row = row_of<T>(x_, at.row + r);
      for (std::int64_t i = 0; i < count; ++i) left[r * count + i] = widen(row[columns[i]]);
    }
    for (std::int64_t c = 0; c < at.columns; ++c) {
      const std::int8_t* codes = w_.codes + (at.column + c) * w_.columns;
      const float scale = w_.scales[at.column + c];
      for (std::int64_t i = 0; i < count; ++i) {
        T value{};
        narrow(static_cast<float>(codes[columns[i]]) * scale * models::kInt8Step, value);
        right[c * count + i] = widen(value);
      }
    }
  }

  void add_to_result(const Place& at, const float* sum) const {
    for (std::int64_t r = 0; r < at.rows; ++r) {
      T* out = row_of<T>(y_, at.row + r) + at.column;
#pragma omp simd
      for (std::int64_t c = 0; c < at.columns; ++c)
        narrow(widen(out[c]) + sum[r * at.columns + c], out[c]);
    }
  }

  View x_, y_, bias_;
  const Int8Matrix& w_;
  float threshold_;
  int threads_;
  ProductBlocks blocks_;
  float* scales_;          // of x's rows
  std::int32_t* columns_;  // with an outlier, ascending
  std::uint8_t* is_outlier_;
  std::int64_t outliers_ = 0;
};

Int8Matrix packed_matrix(const Call& call, std::int64_t rows, std::int64_t columns) {
  return {.codes = call.in[1].as<std::int8_t>(),
          .scales = call.in[2].as<float>(),
          .rows = rows,
          .columns = columns,
          .rounded_to = call.in[0].dtype()};
}

}  // namespace

void dequantize_block(const Int8Matrix& from, std::int64_t row, std::int64_t rows,
                      std::int64_t column, std::int64_t columns, float* to) {
  with_type(from.rounded_to, [&]<class T>(T) {
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int8_t* codes = from.codes + (row + r) * from.columns + column;
      const float scale = from.scales[row + r] * models::kInt8Step;
      float* out = to + r * columns;
#pragma omp simd
      for (std::int64_t i = 0; i < columns; ++i) {
        T value{};
        narrow(static_cast<float>(codes[i]) * scale, value);
        out[i] = widen(value);
      }
    }
  });
}

void linear_int8(Call& call) {
  const View x = call.in[0];
  const Int8Matrix w = packed_matrix(call, call.out[0].width(), x.width());
  const std::int64_t marks = program::int8_marks(x.rows(), x.width());
  const ProductBlocks blocks = program::int8_blocks(x.rows(), w.rows, w.columns, call.threads);
  const auto work = call.scratch.take_array<float>(marks + call.threads * blocks.floats);
  with_type(x.dtype(), [&]<class T>(T) {
    Int8Product<T> product(call, w, work.data());
    product.find_outliers();
    product.find_scales();
    product.multiply(work.data() + marks);
  });
  call.scratch.give_back(work.data());
}

void linear_int8_input_gradient(Call& call) {
  const View dy = call.in[0];
  const View dx = call.out[0];
  const Int8Matrix w = packed_matrix(call, dy.width(), dx.width());
  product_packed(call, matrix(dy), &w, Transposed::kNo, matrix(dx), call.accumulates(0) ? 1 : 0);
}

}  // namespace ftplan::executor::FTPLAN_ISA

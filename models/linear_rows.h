#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/dtype.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/units.h"
#include "models/checkpoint.h"
#include "models/family.h"
#include "models/merge_kernel.h"
#include "models/safetensors.h"

/// The values of a matrix as f32, some rows at a time, whatever a file holds it as.
namespace ftplan::models {

/// Where values are lost by rounding: between those that were meant and those that are stored.
struct Rounding {
  double largest = 0;  ///< magnitude of a difference
  double squares = 0;  ///< sum of the squares of all differences
  double meant = 0;    ///< and of all values that were meant
  std::int64_t not_finite = 0;

  void add(const Rounding& other);
  /// Root mean square of the differences over that of the values; 0 where all values are.
  [[nodiscard]] double relative_rms() const;
};

/// Fewest rows of `width` values that are whole blocks of NF4.
std::size_t rows_of_whole_blocks(std::int64_t width);

class LinearRows {
 public:
  /// Fills `values` with the rows from `first` on.
  using Read = std::function<void(std::size_t first, std::span<float> values)>;

  /// A tensor of floats as it is, [rows, columns]; what has another rank is one row.
  static LinearRows of_floats(const TensorView& tensor);
  /// A matrix of a layer as the files hold it.
  /// @error bad input: what `stored_nf4` and `stored_int8` find, or scales that are not finite
  static Result<LinearRows> of_linear(const Checkpoint& checkpoint, const Weight& weight,
                                      StoredLinears stored);

  [[nodiscard]] std::int64_t rows() const { return rows_; }
  [[nodiscard]] std::int64_t width() const { return width_; }

  /// Thread-safe. @pre `first` is a multiple of `rows_of_whole_blocks(width())`
  void read(std::size_t first, std::span<float> values) const { read_(first, values); }

  /// The same with a LoRA product added.
  [[nodiscard]] LinearRows plus(std::vector<float> a, std::vector<float> b, std::size_t rank,
                                float scale) const;
  /// The values that codes of these rows stand for: the frozen weights of a training on them.
  [[nodiscard]] LinearRows quantized(StoredLinears stored, int threads) const;

  /// What a block of rows becomes: `values` are those from row `first` on, `spare` as many floats.
  using Use =
      std::function<Rounding(std::size_t first, std::span<float> values, std::span<float> spare)>;
  /// Hands on all rows in groups of whole blocks, in turn and on all threads; after each stretch of
  /// rows, when nothing else is running, calls `done` with it and gives its pages of the file back.
  using Done = std::function<Result<void>(std::size_t first, std::size_t rows)>;
  Result<Rounding> for_each(int threads, const Use& use, const Done& done) const;

  /// Rows of one stretch, for buffers of what they become.
  [[nodiscard]] std::size_t stretch(int threads) const;

 private:
  LinearRows(std::int64_t rows, std::int64_t width, Read read)
      : rows_(rows), width_(width), read_(std::move(read)) {}
  [[nodiscard]] std::size_t group() const;
  void release(std::size_t first, std::size_t rows) const;

  std::int64_t rows_ = 0;
  std::int64_t width_ = 0;
  Read read_;
  const TensorView* source_ = nullptr;  // whose pages are touched; as many bytes for each row
};

/// Scales of a whole matrix in NF4.
struct Nf4Scales {
  std::vector<float> absmax;        ///< that codes are multiplied by
  std::vector<std::uint8_t> codes;  ///< with double quantization: of absmax,
  std::vector<float> nested;        ///< their scales,
  float offset = 0;                 ///< and what was taken away
  bool finite = true;               ///< false: nothing else is valid
};
Nf4Scales nf4_scales(const LinearRows& rows, bool twice, int threads);

}  // namespace ftplan::models

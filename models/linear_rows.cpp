#include "models/linear_rows.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/dtype.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/units.h"
#include "models/checkpoint.h"
#include "models/convert.h"
#include "models/family.h"
#include "models/int8.h"
#include "models/merge_kernel.h"
#include "models/nf4.h"
#include "models/safetensors.h"
#include "models/stored_linear.h"

namespace ftplan::models {
namespace {

// Values of a stretch that one thread works on, as f32.
constexpr Bytes kStretch = 8 * kMiB;

// Rows that use a tile of A while it is in the second-level cache.
constexpr std::size_t kRowsAtOnce = 8;

std::size_t up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

std::vector<float> floats_of(const TensorView& tensor) {
  std::vector<float> values(tensor.bytes.size() / sizeof(float));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  tensor.release();
  return values;
}

bool are_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(),
                     [](float value) { return std::isfinite(value); });
}

Error scale_not_finite(const TensorView& tensor) {
  return bad_input(tensor.file->path(), tensor.name + " has a value that is not finite");
}

template <class T>
std::span<const T> codes_of(const TensorView& tensor, std::size_t begin, std::size_t count) {
  return {reinterpret_cast<const T*>(tensor.bytes.data()) + begin, count};
}

Result<std::vector<float>> absmax_of(const StoredNf4& stored) {
  if (stored.nested == nullptr) {
    std::vector<float> absmax = floats_of(*stored.absmax);
    if (!are_finite(absmax)) return scale_not_finite(*stored.absmax);
    return absmax;
  }
  const std::vector<float> nested = floats_of(*stored.nested);
  if (!are_finite(nested)) return scale_not_finite(*stored.nested);
  const std::size_t blocks = stored.absmax->bytes.size();
  std::vector<float> absmax(blocks);
  dequantize_absmax(codes_of<std::uint8_t>(*stored.absmax, 0, blocks), nested, stored.offset,
                    absmax);
  stored.absmax->release();
  return absmax;
}

}  // namespace

void Rounding::add(const Rounding& other) {
  largest = std::max(largest, other.largest);
  squares += other.squares;
  meant += other.meant;
  not_finite += other.not_finite;
}

double Rounding::relative_rms() const { return meant > 0 ? std::sqrt(squares / meant) : 0; }

std::size_t rows_of_whole_blocks(std::int64_t width) {
  return static_cast<std::size_t>(kNf4Block /
                                  std::gcd(kNf4Block, std::max<std::int64_t>(1, width)));
}

LinearRows LinearRows::of_floats(const TensorView& tensor) {
  const DType dtype = *tensor.dtype();
  const bool matrix = tensor.extents.size() == 2;
  const auto elements = static_cast<std::int64_t>(tensor.bytes.size()) / size_of(dtype).value;
  const std::int64_t rows = matrix ? tensor.extents[0] : 1;
  const std::int64_t width = matrix ? tensor.extents[1] : elements;
  const auto row_bytes = static_cast<std::size_t>((width * size_of(dtype)).value);
  const TensorView* from = &tensor;
  LinearRows all(rows, width, [=](std::size_t first, std::span<float> values) {
    const auto bytes = values.size() * static_cast<std::size_t>(size_of(dtype).value);
    to_f32(from->bytes.subspan(first * row_bytes, bytes), dtype, values);
  });
  all.source_ = from;
  return all;
}

Result<LinearRows> LinearRows::of_linear(const Checkpoint& checkpoint, const Weight& weight,
                                         StoredLinears stored) {
  if (stored == StoredLinears::kPlain) return of_floats(*checkpoint.find(weight.name));
  const auto width = static_cast<std::size_t>(weight.shape[1]);
  if (stored == StoredLinears::kInt8) {
    const auto found = stored_int8(checkpoint, weight);
    if (!found) return found.error();
    const auto scales = std::make_shared<const std::vector<float>>(floats_of(*found->scales));
    if (!are_finite(*scales)) return scale_not_finite(*found->scales);
    const TensorView* codes = found->codes;
    LinearRows all(weight.shape[0], weight.shape[1],
                   [=](std::size_t first, std::span<float> values) {
                     for (std::size_t i = 0; i < values.size() / width; ++i) {
                       dequantize_int8(codes_of<std::int8_t>(*codes, (first + i) * width, width),
                                       (*scales)[first + i], values.subspan(i * width, width));
                     }
                   });
    all.source_ = codes;
    return all;
  }
  const auto found = stored_nf4(checkpoint, weight, stored == StoredLinears::kNf4Double);
  if (!found) return found.error();
  auto read = absmax_of(*found);
  if (!read) return read.error();
  const auto absmax = std::make_shared<const std::vector<float>>(*std::move(read));
  const TensorView* packed = found->packed;
  LinearRows all(weight.shape[0], weight.shape[1], [=](std::size_t first, std::span<float> values) {
    const Nf4Counts counts = nf4_counts(static_cast<std::int64_t>(values.size()));
    const std::size_t begin = first * width;
    dequantize_nf4(
        codes_of<std::uint8_t>(*packed, begin / 2, static_cast<std::size_t>(counts.packed)),
        std::span(*absmax).subspan(begin / static_cast<std::size_t>(kNf4Block)), values);
  });
  all.source_ = packed;
  return all;
}

LinearRows LinearRows::plus(std::vector<float> a, std::vector<float> b, std::size_t rank,
                            float scale) const {
  const auto first_factor = std::make_shared<const std::vector<float>>(std::move(a));
  const auto second_factor = std::make_shared<const std::vector<float>>(std::move(b));
  LinearRows sum = *this;
  const auto width = static_cast<std::size_t>(width_);
  sum.read_ = [=, base = read_](std::size_t first, std::span<float> values) {
    base(first, values);
    add_product(
        {.a = *first_factor, .b = *second_factor, .rank = rank, .width = width, .scale = scale},
        first, values);
  };
  return sum;
}

LinearRows LinearRows::quantized(StoredLinears stored, int threads) const {
  if (stored == StoredLinears::kPlain) return *this;
  LinearRows rounded = *this;
  const auto width = static_cast<std::size_t>(width_);
  if (stored == StoredLinears::kInt8) {
    rounded.read_ = [=, base = read_](std::size_t first, std::span<float> values) {
      base(first, values);
      std::vector<std::int8_t> codes(width);
      for (std::size_t i = 0; i < values.size(); i += width) {
        const std::span<float> row = values.subspan(i, width);
        const float absmax = int8_absmax(row);
        if (!std::isfinite(absmax))
          continue;  // what cannot be quantized is found where it is written
        quantize_int8(row, absmax, codes);
        dequantize_int8(codes, absmax, row);
      }
    };
    return rounded;
  }
  auto scales = std::make_shared<const Nf4Scales>(
      nf4_scales(*this, stored == StoredLinears::kNf4Double, threads));
  if (!scales->finite) return *this;
  rounded.read_ = [=, base = read_](std::size_t first, std::span<float> values) {
    base(first, values);
    const Nf4Counts counts = nf4_counts(static_cast<std::int64_t>(values.size()));
    std::vector<std::uint8_t> packed(static_cast<std::size_t>(counts.packed));
    std::vector<float> absmax(static_cast<std::size_t>(counts.blocks));
    quantize_nf4(values, packed, absmax);
    dequantize_nf4(
        packed,
        std::span(scales->absmax).subspan(first * width / static_cast<std::size_t>(kNf4Block)),
        values);
  };
  return rounded;
}

std::size_t LinearRows::group() const { return up(kRowsAtOnce, rows_of_whole_blocks(width_)); }

std::size_t LinearRows::stretch(int threads) const {
  const auto row_bytes = static_cast<std::size_t>((width_ * size_of(DType::kF32)).value);
  const std::size_t each =
      static_cast<std::size_t>(kStretch.value) / std::max<std::size_t>(1, row_bytes);
  const std::size_t all =
      up(std::max<std::size_t>(1, each), group()) * static_cast<std::size_t>(std::max(1, threads));
  return std::min(all, static_cast<std::size_t>(rows_));
}

void LinearRows::release(std::size_t first, std::size_t rows) const {
  if (source_ == nullptr || rows_ == 0) return;
  const std::size_t row_bytes = source_->bytes.size() / static_cast<std::size_t>(rows_);
  source_->file->release(source_->bytes.subspan(first * row_bytes, rows * row_bytes));
}

Result<Rounding> LinearRows::for_each(int threads, const Use& use, const Done& done) const {
  const auto rows = static_cast<std::size_t>(rows_);
  const auto width = static_cast<std::size_t>(width_);
  const std::size_t workers = static_cast<std::size_t>(std::max(1, threads));
  Rounding sum;
  for (std::size_t begin = 0; begin < rows; begin += stretch(threads)) {
    const std::size_t end = std::min(rows, begin + stretch(threads));
    const std::size_t part = up((end - begin + workers - 1) / workers, group());
    std::vector<Rounding> found(workers);
    const auto work = [&](std::size_t worker) {
      std::vector<float> values(std::min(group(), rows) * width);
      std::vector<float> spare(values.size());
      const std::size_t from = begin + worker * part;
      const std::size_t to = std::min(end, from + part);
      for (std::size_t row = from; row < to; row += group()) {
        const std::size_t count = std::min(group(), to - row) * width;
        const std::span<float> some = std::span(values).first(count);
        read(row, some);
        found[worker].add(use(row, some, std::span(spare).first(count)));
      }
    };
    std::vector<std::jthread> helpers;
    for (std::size_t worker = 1; worker < workers && begin + worker * part < end; ++worker)
      helpers.emplace_back(work, worker);
    work(0);
    helpers.clear();
    for (const Rounding& one : found) sum.add(one);
    if (done) {
      if (auto ok = done(begin, end - begin); !ok) return ok.error();
    }
    release(begin, end - begin);
  }
  return sum;
}

Nf4Scales nf4_scales(const LinearRows& rows, bool twice, int threads) {
  const Nf4Counts counts = nf4_counts(rows.rows() * rows.width());
  const auto width = static_cast<std::size_t>(rows.width());
  Nf4Scales scales;
  scales.absmax.resize(static_cast<std::size_t>(counts.blocks));
  const auto find = [&](std::size_t first, std::span<float> values, std::span<float>) {
    const Nf4Counts some = nf4_counts(static_cast<std::int64_t>(values.size()));
    std::vector<std::uint8_t> packed(static_cast<std::size_t>(some.packed));
    quantize_nf4(values, packed,
                 std::span(scales.absmax)
                     .subspan(first * width / static_cast<std::size_t>(kNf4Block),
                              static_cast<std::size_t>(some.blocks)));
    return Rounding{};
  };
  FTPLAN_CHECK(rows.for_each(threads, find, nullptr).ok());
  scales.finite = are_finite(scales.absmax);
  if (!twice || !scales.finite) return scales;
  scales.offset = mean_of(scales.absmax);
  scales.codes.resize(scales.absmax.size());
  scales.nested.resize(static_cast<std::size_t>(counts.nested));
  quantize_absmax(scales.absmax, scales.offset, scales.codes, scales.nested);
  dequantize_absmax(scales.codes, scales.nested, scales.offset, scales.absmax);
  return scales;
}

}  // namespace ftplan::models

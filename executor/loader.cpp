#include "executor/loader.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/dtype.h"
#include "core/job.h"
#include "core/result.h"
#include "core/text.h"
#include "core/units.h"
#include "executor/call.h"
#include "models/adapter.h"
#include "models/adapter_config.h"
#include "models/checkpoint.h"
#include "models/convert.h"
#include "models/dynamic_map.h"
#include "models/family.h"
#include "models/int8.h"
#include "models/nf4.h"
#include "models/safetensors.h"
#include "models/stored_linear.h"
#include "program/attributes.h"
#include "program/step_program.h"

namespace ftplan::executor {
namespace {

std::size_t bytes_of(std::int64_t count, DType dtype) {
  return static_cast<std::size_t>(count * size_of(dtype).value);
}

constexpr std::int64_t kPiece = 1 << 14;  // values that stay in the cache

// Calls `use(begin, values)` for the values [begin, end) of the tensor, at most kPiece, as f32.
template <class Use>
void use_piece(const models::TensorView& from, DType type, std::int64_t begin, std::int64_t end,
               const Use& use) {
  float values[kPiece];
  const std::int64_t size = std::min(kPiece, end - begin);
  const std::span<float> piece(values, static_cast<std::size_t>(size));
  models::to_f32(from.bytes.subspan(bytes_of(begin, type), bytes_of(size, type)), type, piece);
  use(begin, std::span<const float>(piece));
}

// Calls `use(begin, values)` for each piece of the tensor, as f32, on all threads.
template <class Use>
void for_each_piece(const models::TensorView& from, DType type, const Use& use) {
  const std::int64_t count = static_cast<std::int64_t>(from.bytes.size()) / size_of(type).value;
#pragma omp parallel for schedule(static)
  for (std::int64_t begin = 0; begin < count; begin += kPiece)
    use_piece(from, type, begin, count, use);
}

template <class T>
std::span<T> span_of(const View& view) {
  return {view.as<T>(), static_cast<std::size_t>(view.elements())};
}

template <class T>
std::span<T> part_of(std::span<T> all, std::int64_t begin, std::int64_t size) {
  return all.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(size));
}

void quantize(const models::TensorView& from, DType type, std::span<std::uint8_t> packed,
              std::span<float> absmax) {
  static_assert(kPiece % models::kNf4Block == 0);
  for_each_piece(from, type, [&](std::int64_t begin, std::span<const float> values) {
    const auto counts = models::nf4_counts(static_cast<std::int64_t>(values.size()));
    models::quantize_nf4(values, part_of(packed, begin / 2, counts.packed),
                         part_of(absmax, begin / models::kNf4Block, counts.blocks));
  });
}

// A row of the tensor, from value `begin` on; the scale is finite where all values are.
void quantize_row(const models::TensorView& from, DType type, std::int64_t begin,
                  std::span<std::int8_t> codes, float& scale) {
  const std::int64_t end = begin + static_cast<std::int64_t>(codes.size());
  scale = 0;
  for (std::int64_t at = begin; at < end && std::isfinite(scale); at += kPiece) {
    use_piece(from, type, at, end, [&](std::int64_t, std::span<const float> values) {
      const float most = models::int8_absmax(values);
      if (!(most <= scale)) scale = most;
    });
  }
  for (std::int64_t at = begin; at < end && std::isfinite(scale); at += kPiece) {
    use_piece(from, type, at, end, [&](std::int64_t, std::span<const float> values) {
      models::quantize_int8(values, scale,
                            part_of(codes, at - begin, static_cast<std::int64_t>(values.size())));
    });
  }
}

Error not_finite(const models::TensorView& tensor) {
  return bad_input(tensor.file->path(),
                   tensor.name + " has a value that is not finite: it cannot be quantized");
}

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(),
                     [](float value) { return std::isfinite(value); });
}

void quantize_scales(std::span<const float> absmax, float offset, std::span<std::uint8_t> codes,
                     std::span<float> nested) {
  const auto count = static_cast<std::int64_t>(absmax.size());
#pragma omp parallel for schedule(static)
  for (std::int64_t begin = 0; begin < count; begin += kPiece) {
    const std::int64_t size = std::min(kPiece, count - begin);
    models::quantize_absmax(
        part_of(absmax, begin, size), offset, part_of(codes, begin, size),
        part_of(nested, begin / models::kDynamicBlock, models::dynamic_blocks(size)));
  }
}

// Rows of new tokens begin as the mean of the rows in the file.
// @source transformers 5.23 modeling_utils.py, _init_added_embeddings_weights_with_mean, without
// its noise of 3e-5 standard deviations
void fill_new_rows(const View& to, std::int64_t stored_rows) {
  constexpr std::int64_t kColumns = 64;
  const std::int64_t width = to.width();
#pragma omp parallel for schedule(static)
  for (std::int64_t begin = 0; begin < width; begin += kColumns) {
    const std::int64_t count = std::min(kColumns, width - begin);
    const auto part_of_row = [&](std::int64_t row) {
      return std::span(to.data + bytes_of(row * width + begin, to.dtype()),
                       bytes_of(count, to.dtype()));
    };
    double sums[kColumns] = {};
    float values[kColumns];
    const std::span<float> piece(values, static_cast<std::size_t>(count));
    for (std::int64_t row = 0; row < stored_rows; ++row) {
      models::to_f32(part_of_row(row), to.dtype(), piece);
      for (std::int64_t i = 0; i < count; ++i) sums[i] += values[i];
    }
    for (std::int64_t i = 0; i < count; ++i)
      values[i] = static_cast<float>(sums[i] / static_cast<double>(stored_rows));
    for (std::int64_t row = stored_rows; row < to.rows(); ++row)
      models::from_f32(piece, to.dtype(), part_of_row(row));
  }
}

// The same where `to` is the tensor's elements from `begin` on: sums are of the same values.
void fill_new_values(const models::TensorView& from, DType type, std::int64_t begin,
                     const View& to) {
  const std::int64_t width = from.extents.back();
  const auto stored = static_cast<std::int64_t>(from.bytes.size()) / size_of(type).value;
  std::vector<float> row(static_cast<std::size_t>(width));
  std::vector<std::byte> rounded(bytes_of(width, to.dtype()));
  std::vector<double> sums(static_cast<std::size_t>(width), 0.0);
  for (std::int64_t at = 0; at < stored; at += width) {
    models::to_f32(from.bytes.subspan(bytes_of(at, type), bytes_of(width, type)), type, row);
    models::from_f32(row, to.dtype(), rounded);
    models::to_f32(rounded, to.dtype(), row);
    for (std::size_t i = 0; i < row.size(); ++i) sums[i] += row[i];
  }
  const std::int64_t rows = stored / width;
  for (std::int64_t at = std::max(begin, stored); at < begin + to.elements(); ++at) {
    const auto mean =
        static_cast<float>(sums[static_cast<std::size_t>(at % width)] / static_cast<double>(rows));
    models::from_f32({&mean, 1}, to.dtype(),
                     {to.data + bytes_of(at - begin, to.dtype()), bytes_of(1, to.dtype())});
  }
}

// Values between the file's type and the arena's.
void convert(const models::TensorView& from, DType type, const View& to) {
  if (type == to.dtype()) {
    std::memcpy(to.data, from.bytes.data(), from.bytes.size());
    return;
  }
  for_each_piece(from, type, [&](std::int64_t begin, std::span<const float> values) {
    const auto size = static_cast<std::int64_t>(values.size());
    models::from_f32(values, to.dtype(),
                     {to.data + bytes_of(begin, to.dtype()), bytes_of(size, to.dtype())});
  });
}

void copy(const models::TensorView& from, const View& to) {
  FTPLAN_CHECK(static_cast<std::int64_t>(from.bytes.size()) ==
               (to.elements() * size_of(to.dtype())).value);
  std::memcpy(to.data, from.bytes.data(), from.bytes.size());
  from.release();
}

// The scales of a file, which nobody has looked at yet.
Result<void> copy_scales(const models::TensorView& from, const View& to) {
  copy(from, to);
  if (all_finite(span_of<float>(to))) return {};
  return bad_input(from.file->path(), from.name + " has a value that is not finite");
}

Result<void> copy_nf4(const models::Checkpoint& checkpoint, const models::Weight& weight,
                      const Call& call) {
  const bool twice = static_cast<bool>(call.out[2]);
  const auto stored = models::stored_nf4(checkpoint, weight, twice);
  if (!stored) return stored.error();
  copy(*stored->packed, call.out[0]);
  if (!twice) return copy_scales(*stored->absmax, call.out[1]);
  copy(*stored->absmax, call.out[1]);
  *call.out[3].as<float>() = stored->offset;
  return copy_scales(*stored->nested, call.out[2]);
}

Result<void> copy_int8(const models::Checkpoint& checkpoint, const models::Weight& weight,
                       const Call& call) {
  const auto stored = models::stored_int8(checkpoint, weight);
  if (!stored) return stored.error();
  copy(*stored->codes, call.out[0]);
  return copy_scales(*stored->scales, call.out[1]);
}

// Standard normal values. @source Box and Muller 1958, Ann. Math. Statist. 29(2)
void fill_normal(std::mt19937& random, std::span<float> values) {
  const auto uniform = [&] { return (static_cast<double>(random()) + 0.5) / 4294967296.0; };
  for (float& value : values) {
    const double radius = std::sqrt(-2 * std::log(uniform()));
    value = static_cast<float>(radius * std::cos(2 * std::numbers::pi * uniform()));
  }
}

std::string list_of(const std::vector<std::string>& modules) {
  return modules.empty() ? "nothing" : join(modules, ",");
}

}  // namespace

Result<Loader> Loader::open(const Job& job, const std::string& model, const std::string& adapter) {
  auto checkpoint = models::Checkpoint::open(model);
  if (!checkpoint) return checkpoint.error();
  if (auto ok = models::check_weights(*checkpoint, job.model); !ok) return ok.error();
  std::optional<models::Adapter> opened;
  if (!adapter.empty()) {
    auto from = models::Adapter::open(adapter, job.model);
    if (!from) return from.error();
    const auto& chosen = job.request.method.layers_to_transform;
    const std::size_t adapted_layers =
        chosen.empty() ? static_cast<std::size_t>(job.model.layers) : chosen.size();
    std::size_t modules = 0;
    const auto linears = static_cast<std::size_t>(embedding_index(job.model.family));
    for (std::size_t i = 0; i < job.adapters.size(); ++i) {
      modules += job.adapters[i].rank > 0 ? (i < linears ? adapted_layers : 1) : 0;
    }
    for (const models::AdapterModule& module : from->modules()) {
      const LoraShape& wanted = job.adapter(module.linear.linear);
      const double scale = module.linear.scaling(from->config().rslora);
      const bool edge = module.linear.linear >= embedding_index(job.model.family);
      if (!edge && !job.adapts_layer(module.linear.layer)) {
        return bad_input(adapter, "adapts layer " + std::to_string(module.linear.layer) +
                                      ", the plan does not: plan again with --adapter");
      }
      if (wanted.rank == module.linear.rank && std::abs(wanted.scale - scale) <= 1e-12) continue;
      const auto shape = [](std::int64_t rank, double of) {
        return "rank " + std::to_string(rank) + " and scaling " + format_number(of);
      };
      return bad_input(
          adapter,
          "adapts " +
              adapted_names(job.model.family)[static_cast<std::size_t>(module.linear.linear)] +
              " with " + shape(module.linear.rank, scale) + ", the plan " +
              (wanted.rank > 0 ? "with " + shape(wanted.rank, wanted.scale) : "does not") +
              ": plan again with --adapter");
    }
    if (from->modules().size() != modules) {
      return bad_input(adapter, "adapts fewer linears than the plan: plan again with --adapter");
    }
    const auto saved = models::saved_modules(from->config(), job.model, adapter);
    if (!saved) return saved.error();
    if (*saved != job.whole_modules) {
      return bad_input(adapter, "trained " + list_of(*saved) + " in full, the plan " +
                                    list_of(job.whole_modules) + ": plan again with --adapter");
    }
    opened = std::move(*from);
  }
  return Loader(job, *checkpoint, std::move(opened));
}

models::Weight Loader::weight_of(const program::WeightBinding& weight, std::int32_t layer) const {
  models::Weight of_layer = blueprint_.layer[static_cast<std::size_t>(weight.table_index)];
  of_layer.name = models::layer_weight_name(blueprint_, of_layer, layer);
  return of_layer;
}

const models::TensorView& Loader::tensor_of(const program::WeightBinding& weight,
                                            std::int32_t layer) const {
  const std::string name = weight.per_layer ? weight_of(weight, layer).name : weight.name;
  const models::TensorView* tensor = adapter_ ? adapter_->find_weight(name) : nullptr;
  if (tensor == nullptr) tensor = checkpoint_.find(name);
  FTPLAN_CHECK(tensor != nullptr);
  return *tensor;
}

Result<void> Loader::load(const program::WeightBinding& weight, std::int32_t layer, const View& to,
                          std::int64_t begin) const {
  const models::TensorView& tensor = tensor_of(weight, layer);
  const auto type = tensor.dtype();
  if (!type) return type.error();
  const std::int64_t stored = static_cast<std::int64_t>(tensor.bytes.size()) / size_of(*type).value;
  const std::int64_t there = std::clamp(stored - begin, std::int64_t{0}, to.elements());
  models::TensorView part = tensor;
  part.bytes =
      tensor.bytes.subspan(bytes_of(begin, *type) * (there > 0 ? 1 : 0), bytes_of(there, *type));
  if (there > 0) convert(part, *type, to);
  // Only embedding and head can lack rows.
  if (there < to.elements()) {
    if (begin == 0 && to.rows() > 1) {
      fill_new_rows(to, stored / to.width());
    } else {
      fill_new_values(tensor, *type, begin, to);
    }
  }
  tensor.release();
  return {};
}

Result<void> Loader::load_nf4(const program::WeightBinding& weight, std::int32_t layer,
                              const Call& call) const {
  if (call.attributes<program::FileAttributes>().quantized)
    return copy_nf4(checkpoint_, weight_of(weight, layer), call);
  const models::TensorView& tensor = tensor_of(weight, layer);
  const auto type = tensor.dtype();
  if (!type) return type.error();
  const bool nested = static_cast<bool>(call.out[2]);
  const std::int64_t blocks = call.out[1].elements();
  const std::span<float> absmax =
      nested ? call.scratch.take_array<float>(blocks) : span_of<float>(call.out[1]);
  quantize(tensor, *type, span_of<std::uint8_t>(call.out[0]), absmax);
  tensor.release();
  if (!all_finite(absmax)) return not_finite(tensor);
  if (!nested) return {};
  const float offset = models::mean_of(absmax);
  *call.out[3].as<float>() = offset;
  quantize_scales(absmax, offset, span_of<std::uint8_t>(call.out[1]), span_of<float>(call.out[2]));
  return {};
}

Result<void> Loader::load_int8(const program::WeightBinding& weight, std::int32_t layer,
                               const Call& call) const {
  if (call.attributes<program::FileAttributes>().quantized)
    return copy_int8(checkpoint_, weight_of(weight, layer), call);
  const models::TensorView& tensor = tensor_of(weight, layer);
  const auto type = tensor.dtype();
  if (!type) return type.error();
  const auto codes = span_of<std::int8_t>(call.out[0]);
  const auto scales = span_of<float>(call.out[1]);
  const auto rows = static_cast<std::int64_t>(scales.size());
  const std::int64_t width = call.out[0].elements() / rows;
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < rows; ++row) {
    quantize_row(tensor, *type, row * width, part_of(codes, row * width, width),
                 scales[static_cast<std::size_t>(row)]);
  }
  tensor.release();
  if (!all_finite(scales)) return not_finite(tensor);
  return {};
}

Result<void> Loader::init_adapter(const program::AdapterBinding& adapter, std::int32_t layer,
                                  const View& to) const {
  const auto values = std::span(to.as<float>(), static_cast<std::size_t>(to.elements()));
  FTPLAN_CHECK(to.dtype() == DType::kF32);
  // Zeros times zeros have no gradient, so they stay.
  if (adapter.per_layer && !layers_.empty() && !std::ranges::binary_search(layers_, layer)) {
    std::ranges::fill(values, 0.0F);
    return {};
  }
  if (adapter_) {
    for (const models::AdapterModule& module : adapter_->modules()) {
      const bool here = !adapter.per_layer || module.linear.layer == layer;
      if (!here || module.linear.linear != adapter.linear) continue;
      std::vector<float> from = models::values_of(adapter.b ? *module.b : *module.a);
      if (adapter.transposed)
        from = models::transposed(from, static_cast<std::size_t>(module.linear.rank));
      FTPLAN_CHECK(from.size() == values.size());
      std::copy(from.begin(), from.end(), values.begin());
      return {};
    }
    FTPLAN_CHECK(false);
  }
  const bool embedding = adapter.linear == embedding_;
  // Of an embedding's pair it is A that begins as zero.
  if (adapter.b != embedding) {
    std::fill(values.begin(), values.end(), 0.0F);
    return {};
  }
  // The engine's sequence is fixed by the standard; its distributions are not.
  std::seed_seq seed{seed_ & 0xFFFFFFFFU, seed_ >> 32, std::uint64_t(layer),
                     std::uint64_t(adapter.linear)};
  std::mt19937 random(seed);
  if (embedding) {
    fill_normal(random, values);
    return {};
  }
  const double bound = 1.0 / std::sqrt(static_cast<double>(to.width()));
  for (float& value : values) {
    value = static_cast<float>((static_cast<double>(random()) / 4294967296.0 * 2 - 1) * bound);
  }
  return {};
}

}  // namespace ftplan::executor

#include "models/linear_writer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/dtype.h"
#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/shape.h"
#include "core/text.h"
#include "models/config_reader.h"
#include "models/convert.h"
#include "models/dynamic_map.h"
#include "models/int8.h"
#include "models/linear_rows.h"
#include "models/merge_kernel.h"
#include "models/nf4.h"
#include "models/safetensors_header.h"
#include "models/safetensors_writer.h"
#include "models/stored_linear.h"

namespace ftplan::models {
namespace {

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

Rounding compare(std::span<const float> meant, std::span<const float> stored) {
  Rounding found;
  for (std::size_t i = 0; i < meant.size(); ++i) {
    const double difference = static_cast<double>(stored[i]) - meant[i];
    found.largest = std::max(found.largest, std::abs(difference));
    found.squares += difference * difference;
    found.meant += static_cast<double>(meant[i]) * meant[i];
  }
  return found;
}

// What bitsandbytes keeps beside the tensors, as JSON. The offset is known only after the header is
// written: spaces fill the room that the longest needs.
std::string render_state(const Shape& shape, DType dtype, bool twice, float offset) {
  Json state;
  state["quant_type"] = "nf4";
  state["blocksize"] = kNf4Block;
  state["dtype"] = dtype_name(dtype);
  state["shape"] = {shape[0], shape[1]};
  if (!twice) return state.dump();
  state["nested_blocksize"] = kDynamicBlock;
  state["nested_dtype"] = dtype_name(DType::kF32);
  std::string text = state.dump();
  text.pop_back();
  const std::string number = format_number(static_cast<double>(offset));
  constexpr std::size_t kLongest = 24;  // of any double
  FTPLAN_CHECK(number.size() <= kLongest);
  return text + ",\"nested_offset\":" + number + "}" + std::string(kLongest - number.size(), ' ');
}

Shape shape_of(const LinearRows& rows) { return {rows.rows(), rows.width()}; }

Result<Rounding> write_floats(const std::string& name, const LinearRows& rows, DType dtype,
                              int threads, SafetensorsWriter& writer) {
  const auto size = static_cast<std::size_t>(size_of(dtype).value);
  const auto row_bytes = static_cast<std::size_t>(rows.width()) * size;
  const std::size_t stretch = rows.stretch(threads);
  std::vector<std::byte> out(stretch * row_bytes);
  const auto use = [&](std::size_t first, std::span<float> values, std::span<float> stored) {
    const std::span<std::byte> to =
        std::span(out).subspan(first % stretch * row_bytes, values.size() * size);
    from_f32(values, dtype, to);
    to_f32(to, dtype, stored);
    Rounding found = compare(values, stored);
    found.not_finite = count_not_finite(values, dtype);
    return found;
  };
  return rows.for_each(threads, use, [&](std::size_t, std::size_t count) {
    return writer.write(name, std::span(out).first(count * row_bytes));
  });
}

Result<void> write_state(const std::string& name, const LinearRows& rows, DType dtype,
                         const Nf4Scales& scales, bool twice, SafetensorsWriter& writer) {
  const std::string state = render_state(shape_of(rows), dtype, twice, scales.offset);
  struct Part {
    const char* suffix;
    std::span<const std::byte> bytes;
  };
  std::vector<Part> parts = {
      {kAbsmaxSuffix, twice ? bytes_of(scales.codes) : bytes_of(scales.absmax)},
      {kMapSuffix, std::as_bytes(std::span(kNf4Values))},
      {kStateSuffix, std::as_bytes(std::span(state))}};
  if (twice) {
    parts.push_back({kNestedAbsmaxSuffix, bytes_of(scales.nested)});
    parts.push_back({kNestedMapSuffix, std::as_bytes(std::span(signed_dynamic_map().values))});
  }
  for (const Part& part : parts) {
    if (auto ok = writer.write(name + part.suffix, part.bytes); !ok) return ok;
  }
  return {};
}

Result<Rounding> write_nf4(const std::string& name, const LinearRows& rows, DType dtype, bool twice,
                           int threads, SafetensorsWriter& writer) {
  const Nf4Scales scales = nf4_scales(rows, twice, threads);
  if (!scales.finite) return Rounding{.not_finite = 1};
  const auto width = static_cast<std::size_t>(rows.width());
  const std::size_t stretch = rows.stretch(threads);
  std::vector<std::uint8_t> out((stretch * width + 1) / 2);
  const auto use = [&](std::size_t first, std::span<float> values, std::span<float> stored) {
    const Nf4Counts counts = nf4_counts(static_cast<std::int64_t>(values.size()));
    const std::span<std::uint8_t> packed = std::span(out).subspan(
        first % stretch * width / 2, static_cast<std::size_t>(counts.packed));
    std::vector<float> absmax(static_cast<std::size_t>(counts.blocks));
    quantize_nf4(values, packed, absmax);
    dequantize_nf4(
        packed,
        std::span(scales.absmax).subspan(first * width / static_cast<std::size_t>(kNf4Block)),
        stored);
    return compare(values, stored);
  };
  const auto done = [&](std::size_t, std::size_t count) {
    return writer.write(name, std::as_bytes(std::span(out).first((count * width + 1) / 2)));
  };
  auto found = rows.for_each(threads, use, done);
  if (!found) return found;
  if (auto ok = write_state(name, rows, dtype, scales, twice, writer); !ok) return ok.error();
  return found;
}

Result<Rounding> write_int8(const std::string& name, const LinearRows& rows, int threads,
                            SafetensorsWriter& writer) {
  const auto width = static_cast<std::size_t>(rows.width());
  const std::size_t stretch = rows.stretch(threads);
  std::vector<std::int8_t> out(stretch * width);
  std::vector<float> scales(static_cast<std::size_t>(rows.rows()));
  const auto use = [&](std::size_t first, std::span<float> values, std::span<float> stored) {
    Rounding found;
    for (std::size_t i = 0; i < values.size() / width; ++i) {
      const std::span<float> row = values.subspan(i * width, width);
      const std::span<std::int8_t> codes =
          std::span(out).subspan((first % stretch + i) * width, width);
      float& scale = scales[first + i];
      scale = int8_absmax(row);
      if (!std::isfinite(scale)) {
        ++found.not_finite;
        continue;
      }
      quantize_int8(row, scale, codes);
      dequantize_int8(codes, scale, stored.subspan(i * width, width));
      found.add(compare(row, stored.subspan(i * width, width)));
    }
    return found;
  };
  const auto done = [&](std::size_t, std::size_t count) {
    return writer.write(name, std::as_bytes(std::span(out).first(count * width)));
  };
  auto found = rows.for_each(threads, use, done);
  if (!found) return found;
  if (auto ok = writer.write(scales_name(name), bytes_of(scales)); !ok) return ok.error();
  constexpr std::array kByRows = {std::byte{0}};
  if (auto ok = writer.write(format_name(name), kByRows); !ok) return ok.error();
  return found;
}

}  // namespace

std::vector<TensorSpec> specs_of_linear(const std::string& name, const Shape& shape, DType dtype,
                                        StoredLinears stored) {
  if (stored == StoredLinears::kPlain) return {{name, dtype, shape}};
  if (stored == StoredLinears::kInt8) {
    return {{name, DType::kI8, shape},
            {scales_name(name), DType::kF32, {shape[0]}},
            {format_name(name), DType::kU8, {}}};
  }
  const bool twice = stored == StoredLinears::kNf4Double;
  const Nf4Counts counts = nf4_counts(shape.elements());
  const auto state = static_cast<std::int64_t>(render_state(shape, dtype, twice, 0).size());
  std::vector<TensorSpec> specs = {
      {name, DType::kU8, {counts.packed, 1}},
      {name + kAbsmaxSuffix, twice ? DType::kU8 : DType::kF32, {counts.blocks}},
      {name + kMapSuffix, DType::kF32, {static_cast<std::int64_t>(kNf4Values.size())}},
      {name + kStateSuffix, DType::kU8, {state}}};
  if (!twice) return specs;
  const auto map = static_cast<std::int64_t>(signed_dynamic_map().values.size());
  specs.push_back({name + kNestedAbsmaxSuffix, DType::kF32, {counts.nested}});
  specs.push_back({name + kNestedMapSuffix, DType::kF32, {map}});
  return specs;
}

Result<Rounding> write_linear(const std::string& name, const LinearRows& rows, DType dtype,
                              StoredLinears stored, int threads, SafetensorsWriter& writer) {
  switch (stored) {
    case StoredLinears::kPlain:
      return write_floats(name, rows, dtype, threads, writer);
    case StoredLinears::kInt8:
      return write_int8(name, rows, threads, writer);
    case StoredLinears::kNf4:
    case StoredLinears::kNf4Double:
      break;
  }
  return write_nf4(name, rows, dtype, stored == StoredLinears::kNf4Double, threads, writer);
}

}  // namespace ftplan::models

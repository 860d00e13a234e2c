#include "models/stored_linear.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/enums.h"
#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/shape.h"
#include "core/text.h"
#include "models/checkpoint.h"
#include "models/config_field.h"
#include "models/dynamic_map.h"
#include "models/family.h"
#include "models/files.h"
#include "models/nf4.h"
#include "models/safetensors.h"

namespace ftplan::models {
namespace {

constexpr std::size_t kLargestState = 4096;  // bytes of JSON; bitsandbytes writes about 200

Error wrong(const TensorView& tensor, const std::string& message) {
  return bad_input(tensor.file->path(), tensor.name + " " + message);
}

std::string text_of(DType dtype, const std::vector<std::int64_t>& extents) {
  std::vector<std::string> words;
  for (const std::int64_t extent : extents) words.push_back(std::to_string(extent));
  return std::string(to_text(dtype)) + " [" + join(words, ", ") + "]";
}

Result<const TensorView*> find_part(const Checkpoint& checkpoint, const std::string& name,
                                    DType dtype, const std::vector<std::int64_t>& extents) {
  const TensorView* tensor = checkpoint.find(name);
  if (tensor == nullptr) {
    return bad_input(checkpoint.folder(), "lacks " + name + " " + text_of(dtype, extents) +
                                              ", which config.json#/quantization_config says");
  }
  if (tensor->file_dtype->dtype == dtype && tensor->extents == extents) return tensor;
  return wrong(*tensor, std::string("is ") + tensor->file_dtype->name + " " + tensor->shape_text() +
                            ", expected " + text_of(dtype, extents) +
                            " as config.json#/quantization_config says; " + kGiveUnquantized);
}

// The values that codes stand for: those of ftplan, bit for bit.
Result<void> check_map(const Checkpoint& checkpoint, const std::string& name,
                       std::span<const float> expected) {
  const auto map =
      find_part(checkpoint, name, DType::kF32, {static_cast<std::int64_t>(expected.size())});
  if (!map) return map.error();
  if (std::memcmp((*map)->bytes.data(), expected.data(), expected.size_bytes()) == 0) return {};
  return wrong(**map, std::string("holds other values than those of bitsandbytes 0.50: ") +
                          kGiveUnquantized);
}

// One number of the state; there is no other form of it.
Result<void> expect_block(const Json& state, const std::string& where, const char* key,
                          std::int64_t expected) {
  const auto got = read_or<std::int64_t>(state, where, key, 0, {0, 1 << 24}, "values");
  if (!got) return got.error();
  if (*got == expected) return {};
  return bad_input(json_detail::child(where, key),
                   "got " + std::to_string(*got) + ", expected " + std::to_string(expected) +
                       ": other blocks are not built yet; " + kGiveUnquantized);
}

// What the state says beside the tensors; returns the offset of the scales.
Result<float> read_state(const TensorView& tensor, const Shape& shape, bool twice) {
  if (tensor.file_dtype->dtype != DType::kU8 || tensor.bytes.size() > kLargestState) {
    return wrong(tensor, std::string("is ") + tensor.file_dtype->name + " " + tensor.shape_text() +
                             ", expected U8 of some JSON");
  }
  const std::string where = tensor.file->path() + " " + tensor.name;
  const std::string text(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
  const auto state = parse_json(text, where);
  if (!state) return state.error();
  if (!state->is_object()) return json_detail::wrong(where, *state, "an object");
  const auto type = read_or<std::string>(*state, where, "quant_type", "");
  if (!type) return type.error();
  if (*type != "nf4") {
    return bad_input(json_detail::child(where, "quant_type"),
                     "got " + in_quotes(*type) + ", expected \"nf4\": " + kGiveUnquantized);
  }
  if (auto ok = expect_block(*state, where, "blocksize", kNf4Block); !ok) return ok.error();
  const auto extents =
      read_or<std::vector<std::int64_t>>(*state, where, "shape", {}, {0, 1LL << 40}, "values");
  if (!extents) return extents.error();
  if (*extents != std::vector<std::int64_t>{shape[0], shape[1]}) {
    return bad_input(json_detail::child(where, "shape"),
                     "is not the " + shape.text() + " of config.json");
  }
  if (!twice) return 0.0F;
  if (auto ok = expect_block(*state, where, "nested_blocksize", kDynamicBlock); !ok)
    return ok.error();
  if (!is_set(*state, "nested_offset"))
    return bad_input(json_detail::child(where, "nested_offset"), "missing");
  const auto offset =
      read_value<double>(state->at("nested_offset"), json_detail::child(where, "nested_offset"),
                         Missing::kKeepDefault);
  if (!offset) return offset.error();
  const auto value = static_cast<float>(*offset);
  if (std::isfinite(value)) return value;
  return bad_input(json_detail::child(where, "nested_offset"), "is not finite as f32");
}

}  // namespace

std::string linear_name(std::string_view weight) {
  return std::string(weight.substr(0, weight.size() - std::string_view(".weight").size()));
}
std::string scales_name(std::string_view weight) { return linear_name(weight) + ".SCB"; }
std::string format_name(std::string_view weight) { return linear_name(weight) + ".weight_format"; }

std::vector<std::string> stored_names(const std::string& weight, StoredLinears stored) {
  switch (stored) {
    case StoredLinears::kPlain:
      return {weight};
    case StoredLinears::kInt8:
      return {weight, scales_name(weight), format_name(weight)};
    case StoredLinears::kNf4:
      return {weight, weight + kAbsmaxSuffix, weight + kMapSuffix, weight + kStateSuffix};
    case StoredLinears::kNf4Double:
      break;
  }
  return {weight,
          weight + kAbsmaxSuffix,
          weight + kMapSuffix,
          weight + kNestedAbsmaxSuffix,
          weight + kNestedMapSuffix,
          weight + kStateSuffix};
}

Result<StoredNf4> stored_nf4(const Checkpoint& checkpoint, const Weight& weight, bool twice) {
  const Nf4Counts counts = nf4_counts(weight.shape.elements());
  const std::string& name = weight.name;
  StoredNf4 found;
  const auto packed = find_part(checkpoint, name, DType::kU8, {counts.packed, 1});
  if (!packed) return packed.error();
  found.packed = *packed;
  const auto absmax = find_part(checkpoint, name + kAbsmaxSuffix, twice ? DType::kU8 : DType::kF32,
                                {counts.blocks});
  if (!absmax) return absmax.error();
  found.absmax = *absmax;
  const TensorView* state = checkpoint.find(name + kStateSuffix);
  if (state == nullptr) return bad_input(checkpoint.folder(), "lacks " + name + kStateSuffix);
  const auto offset = read_state(*state, weight.shape, twice);
  if (!offset) return offset.error();
  found.offset = *offset;
  if (auto ok = check_map(checkpoint, name + kMapSuffix, kNf4Values); !ok) return ok.error();
  if (!twice) return found;
  const auto nested =
      find_part(checkpoint, name + kNestedAbsmaxSuffix, DType::kF32, {counts.nested});
  if (!nested) return nested.error();
  found.nested = *nested;
  if (auto ok = check_map(checkpoint, name + kNestedMapSuffix, signed_dynamic_map().values); !ok)
    return ok.error();
  return found;
}

Result<StoredInt8> stored_int8(const Checkpoint& checkpoint, const Weight& weight) {
  const std::int64_t rows = weight.shape[0];
  const auto codes = find_part(checkpoint, weight.name, DType::kI8, {rows, weight.shape[1]});
  if (!codes) return codes.error();
  const auto scales = find_part(checkpoint, scales_name(weight.name), DType::kF32, {rows});
  if (!scales) return scales.error();
  const auto format = find_part(checkpoint, format_name(weight.name), DType::kU8, {});
  if (!format) return format.error();
  if ((*format)->bytes[0] != std::byte{0}) {
    return wrong(**format, "is " + std::to_string(std::to_integer<int>((*format)->bytes[0])) +
                               ", expected 0, for rows: " + kGiveUnquantized);
  }
  return StoredInt8{*codes, *scales};
}

Result<void> check_stored_linear(const Checkpoint& checkpoint, const Weight& weight,
                                 StoredLinears stored) {
  if (stored == StoredLinears::kInt8) {
    const auto found = stored_int8(checkpoint, weight);
    return found ? Result<void>() : found.error();
  }
  const auto found = stored_nf4(checkpoint, weight, stored == StoredLinears::kNf4Double);
  return found ? Result<void>() : found.error();
}

}  // namespace ftplan::models

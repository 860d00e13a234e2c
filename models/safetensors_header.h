#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"
#include "core/shape.h"
#include "core/units.h"

/// The header of a safetensors file: eight bytes of length, then JSON with a name, an element type,
/// a shape and a byte range for each tensor.
/// @source safetensors 0.8 `safetensors/src/tensor.rs`
namespace ftplan::models {

/// Element types of the format, more than ftplan computes with.
struct FileDType {
  const char* name;
  int bits;
  std::optional<DType> dtype;  ///< empty for what ftplan has no use for
};

/// The row of a name such as `BF16`; null for a name that the format does not have.
const FileDType* find_file_dtype(std::string_view name);

/// What the header says about one tensor.
struct TensorInfo {
  std::string name;
  const FileDType* dtype = nullptr;
  std::vector<std::int64_t> extents;
  std::int64_t begin = 0;  ///< first byte of the tensor, counted from the end of the header
  std::int64_t end = 0;
};

using Metadata = std::vector<std::pair<std::string, std::string>>;

/// Empty where the key is missing.
std::string value_of(const Metadata& metadata, std::string_view key);

struct Header {
  Bytes size;  ///< with the eight bytes of length
  Metadata metadata;
  std::vector<TensorInfo> tensors;  ///< in the order of their bytes
};

/// Reads and checks the header of a whole file: what it returns covers the file exactly, without
/// overlap or hole. Stricter than the reference where that lets two readers see different tensors:
/// the header must begin with `{`, and no key may stand twice.
/// @error bad input, `where: what is wrong`
Result<Header> parse_header(std::span<const std::byte> file, const std::string& where);

/// A tensor that will be written.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;

  [[nodiscard]] Bytes bytes() const { return shape.elements() * size_of(dtype); }
  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

/// What transformers expects to find in the metadata of its files.
inline Metadata torch_metadata() { return {{"format", "pt"}}; }

/// The order of tensors in a file: larger alignment first, then by name.
std::vector<TensorSpec> file_order(std::vector<TensorSpec> specs);

/// The bytes of the header that the reference writes for these tensors; `in_order` as `file_order`
/// gives it.
std::string render_header(const std::vector<TensorSpec>& in_order, const Metadata& metadata);

/// Exact bytes on disk, before anything is written.
Bytes header_size(const std::vector<TensorSpec>& specs,
                  const Metadata& metadata = torch_metadata());
Bytes file_size(const std::vector<TensorSpec>& specs, const Metadata& metadata = torch_metadata());

}  // namespace ftplan::models

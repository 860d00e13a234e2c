#include "models/safetensors.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/enums.h"
#include "core/result.h"
#include "core/shape.h"
#include "core/text.h"
#include "models/files.h"
#include "models/mapped_file.h"
#include "models/safetensors_header.h"

namespace ftplan::models {

Result<DType> TensorView::dtype() const {
  if (file_dtype->dtype) return *file_dtype->dtype;
  return bad_input(file->path(), "tensor " + in_quotes(name) + " has elements of type " +
                                     file_dtype->name + ", expected " + expected_text<DType>());
}

Result<Shape> TensorView::shape() const {
  if (extents.size() > Shape::kMaxRank) {
    return bad_input(file->path(),
                     "tensor " + in_quotes(name) + " has " + std::to_string(extents.size()) +
                         " dimensions, expected 0.." + std::to_string(Shape::kMaxRank));
  }
  Shape shape;
  for (const std::int64_t extent : extents) shape.push_back(extent);
  return shape;
}

std::string TensorView::shape_text() const {
  std::vector<std::string> parts;
  parts.reserve(extents.size());
  for (const std::int64_t extent : extents) parts.push_back(std::to_string(extent));
  return "[" + join(parts, ", ") + "]";
}

Result<TensorSpec> spec_of(const TensorView& tensor) {
  const auto dtype = tensor.dtype();
  if (!dtype) return dtype.error();
  const auto shape = tensor.shape();
  if (!shape) return shape.error();
  return TensorSpec{tensor.name, *dtype, *shape};
}

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  auto file = MappedFile::open(path);
  if (!file) return file.error();
  const auto bytes = (*file)->bytes();
  auto header = parse_header(bytes, path);
  if (!header) return header.error();

  auto contents = std::make_shared<Contents>();
  contents->metadata = std::move(header->metadata);
  contents->tensors.reserve(header->tensors.size());
  for (TensorInfo& info : header->tensors) {
    const auto begin = static_cast<std::size_t>(header->size.value + info.begin);
    const auto size = static_cast<std::size_t>(info.end - info.begin);
    contents->tensors.push_back({.name = std::move(info.name),
                                 .file_dtype = info.dtype,
                                 .extents = std::move(info.extents),
                                 .bytes = bytes.subspan(begin, size),
                                 .file = file->get()});
  }
  for (const TensorView& tensor : contents->tensors) contents->by_name[tensor.name] = &tensor;
  return SafetensorsFile(*std::move(file), std::move(contents));
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
  const auto entry = contents_->by_name.find(name);
  return entry == contents_->by_name.end() ? nullptr : entry->second;
}

}  // namespace ftplan::models

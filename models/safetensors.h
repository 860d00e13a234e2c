#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"
#include "core/shape.h"
#include "models/mapped_file.h"
#include "models/safetensors_header.h"

/// Reader of safetensors files: mapped, checked as a whole, not copied.
namespace ftplan::models {

/// One tensor of a mapped file. Valid as long as the file that it came from, or a copy of that,
/// lives.
struct TensorView {
  std::string name;
  const FileDType* file_dtype = nullptr;
  std::vector<std::int64_t> extents;
  std::span<const std::byte> bytes;  ///< aligned to nothing: copy before use as numbers
  const MappedFile* file = nullptr;

  /// @error an element type that ftplan does not compute with
  [[nodiscard]] Result<DType> dtype() const;
  /// @error more than `Shape::kMaxRank` dimensions
  [[nodiscard]] Result<Shape> shape() const;
  /// `[2048, 4096]`, of any rank.
  [[nodiscard]] std::string shape_text() const;
  /// Says that the bytes have been consumed: their pages leave this process.
  void release() const { file->release(bytes); }
};

/// A tensor as it would be written again.
Result<TensorSpec> spec_of(const TensorView& tensor);

/// Copies are cheap and share the mapping.
class SafetensorsFile {
 public:
  /// @error bad input: `path: what is wrong`
  static Result<SafetensorsFile> open(const std::string& path);

  [[nodiscard]] const std::string& path() const { return file_->path(); }
  [[nodiscard]] const Metadata& metadata() const { return contents_->metadata; }
  /// In the order of their bytes.
  [[nodiscard]] const std::vector<TensorView>& tensors() const { return contents_->tensors; }
  /// Null when no tensor has this name.
  [[nodiscard]] const TensorView* find(std::string_view name) const;

 private:
  struct Contents {
    Metadata metadata;
    std::vector<TensorView> tensors;
    std::unordered_map<std::string_view, const TensorView*> by_name;
  };

  SafetensorsFile(std::shared_ptr<const MappedFile> file, std::shared_ptr<const Contents> contents)
      : file_(std::move(file)), contents_(std::move(contents)) {}

  std::shared_ptr<const MappedFile> file_;
  std::shared_ptr<const Contents> contents_;
};

}  // namespace ftplan::models

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/result.h"
#include "core/units.h"
#include "models/output_file.h"
#include "models/safetensors_header.h"

/// Writer of safetensors files: streaming, durable, and byte equal to what the reference writes.
namespace ftplan::models {

/// Takes the bytes of the announced tensors in any order and in pieces of any size; holds none of
/// them back.
class SafetensorsWriter {
 public:
  /// Reserves exactly `file_size(specs, metadata)` bytes on the disk and writes the header.
  /// @pre names are unique, shapes and sizes valid
  /// @error run failed: the file cannot be made, or what the disk lacks
  static Result<SafetensorsWriter> create(const std::string& path,
                                          const std::vector<TensorSpec>& specs,
                                          const Metadata& metadata = torch_metadata());

  [[nodiscard]] const std::string& path() const { return file_.path(); }

  /// The next bytes of a tensor.
  /// @pre the tensor was announced and has room for them
  Result<void> write(std::string_view name, std::span<const std::byte> bytes);

  /// Whether every byte of every tensor has been written.
  [[nodiscard]] bool complete() const { return missing_.value == 0; }

  /// Makes the file durable and gives it its name.
  /// @pre `complete()`
  Result<void> finish();

 private:
  struct Cursor {
    std::int64_t next = 0;
    std::int64_t end = 0;
  };
  explicit SafetensorsWriter(OutputFile file) : file_(std::move(file)) {}

  OutputFile file_;
  std::unordered_map<std::string, Cursor> cursors_;
  Bytes missing_;
};

}  // namespace ftplan::models

#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "core/result.h"

namespace ftplan::data {

/// A file as read-only memory. Pages come in when touched and can leave again, so size costs no
/// memory.
class MappedFile {
 public:
  /// @error bad input that names the file: missing, unreadable, or not a regular file
  static Result<MappedFile> open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  [[nodiscard]] std::string_view bytes() const { return {data_, size_}; }

 private:
  MappedFile(const char* data, std::size_t size) : data_(data), size_(size) {}

  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace ftplan::data

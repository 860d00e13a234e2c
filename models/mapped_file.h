#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "core/result.h"

/// A file as memory.
namespace ftplan::models {

/// Read-only mapping of a whole file: nothing is read until it is touched. The file must not be cut
/// while it is mapped; replacing it by a rename, as `OutputFile` does, is fine.
class MappedFile {
 public:
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path);

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

  /// Tells the system that `part` has been consumed: its pages leave this process and are read
  /// again if they are touched again.
  void release(std::span<const std::byte> part) const;

 private:
  MappedFile(std::string path, std::span<const std::byte> bytes);

  std::string path_;
  std::span<const std::byte> bytes_;
};

}  // namespace ftplan::models

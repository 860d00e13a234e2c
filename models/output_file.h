#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "core/result.h"
#include "core/units.h"

/// A file that appears under its name only when it is complete.
namespace ftplan::models {

/// Bytes go to `<path>.partial` in the same folder; `commit` makes them durable and renames. A
/// mapping of the file that had the name before stays valid. Without `commit` the partial file is
/// removed; one that a killed process left behind is written over.
class OutputFile {
 public:
  /// Opens the partial file and reserves its space on the disk.
  /// @error run failed: no such folder, another process writes the same file, or how many bytes the
  /// disk lacks
  static Result<OutputFile> create(const std::string& path, Bytes size);

  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  [[nodiscard]] const std::string& path() const { return path_; }

  /// @pre the bytes lie within the size given to `create`
  Result<void> write_at(Bytes offset, std::span<const std::byte> bytes);

  /// fsync, rename, fsync of the folder.
  Result<void> commit();

 private:
  OutputFile(std::string path, int descriptor, Bytes size);
  Result<void> reserve();
  void discard() noexcept;

  std::string path_;
  int descriptor_ = -1;
  Bytes size_;
};

/// Free space on the disk that holds `folder`, for this user.
Result<Bytes> free_space(const std::string& folder);

}  // namespace ftplan::models

#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace ftplan::data {

/// Writes a file that appears whole or not at all: to a temporary name beside it, then renamed.
/// Several processes may write the same path at once; the last rename wins. What is not committed
/// is removed.
class AtomicFile {
 public:
  /// @error run failed, naming the path: folder missing, no permission
  static Result<AtomicFile> create(std::string path);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  /// Appends. A failure is kept and told by `commit`, so that writers need not look at every call.
  void write(std::string_view bytes);
  /// Flushes, puts the bytes on the disk and renames.
  /// @error run failed: disk full, or whatever else went wrong since `create`
  Result<void> commit();

 private:
  AtomicFile(std::string path, std::string temporary, int descriptor);
  void flush();
  void write_through(std::string_view bytes);

  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
  int error_ = 0;  // errno of the first failure
  std::string buffer_;
};

}  // namespace ftplan::data

#include "data/atomic_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "core/result.h"

namespace ftplan::data {
namespace {

constexpr std::size_t kBuffer = std::size_t{1} << 20U;
constexpr mode_t kMode = 0644;

Error cannot_write(const std::string& path, int error) {
  return run_failed(path, "cannot be written: " + std::generic_category().message(error));
}

}  // namespace

Result<AtomicFile> AtomicFile::create(std::string path) {
  std::string temporary = path + ".XXXXXX";
  const int descriptor = ::mkostemp(temporary.data(), O_CLOEXEC);
  if (descriptor < 0) return cannot_write(path, errno);
  return AtomicFile(std::move(path), std::move(temporary), descriptor);
}

AtomicFile::AtomicFile(std::string path, std::string temporary, int descriptor)
    : path_(std::move(path)), temporary_(std::move(temporary)), descriptor_(descriptor) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      error_(other.error_),
      buffer_(std::move(other.buffer_)) {}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::string_view bytes) {
  if (buffer_.size() + bytes.size() > kBuffer) flush();
  if (bytes.size() > kBuffer) return write_through(bytes);
  buffer_ += bytes;
}

void AtomicFile::flush() {
  write_through(buffer_);
  buffer_.clear();
}

void AtomicFile::write_through(std::string_view bytes) {
  while (!bytes.empty() && error_ == 0) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno != EINTR) {
      error_ = errno;
    }
  }
}

Result<void> AtomicFile::commit() {
  flush();
  const auto check = [this](int result) {
    if (result != 0 && error_ == 0) error_ = errno;
  };
  if (error_ == 0) check(::fsync(descriptor_));
  if (error_ == 0) check(::fchmod(descriptor_, kMode));
  if (error_ == 0) check(::rename(temporary_.c_str(), path_.c_str()));
  if (error_ != 0) return cannot_write(path_, error_);
  ::close(std::exchange(descriptor_, -1));
  return {};
}

}  // namespace ftplan::data

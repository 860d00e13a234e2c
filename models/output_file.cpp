#include "models/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <utility>

#include "core/check.h"
#include "core/result.h"
#include "core/text.h"
#include "core/units.h"
#include "models/files.h"

namespace ftplan::models {
namespace {

std::string partial_name(const std::string& path) { return path + ".partial"; }

// What a write of `needed` more bytes lacks, in words.
Error disk_full(const std::string& path, Bytes needed, int error_number) {
  const auto free = free_space(folder_of(path));
  std::string message = "cannot be written: " + system_text(error_number);
  if (free && *free < needed) {
    message = "the disk is full: " + format_bytes(needed) + " needed, " + format_bytes(*free) +
              " free, " + format_bytes(needed - *free) + " missing";
  } else {
    message += ", " + format_bytes(needed) + " missing";
  }
  return run_failed(path, message);
}

Result<void> sync_folder(const std::string& path) {
  const int folder = ::open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return run_failed(path, "cannot open its folder: " + system_text(errno));
  const bool synced = ::fsync(folder) == 0 || errno == EINVAL;  // some file systems cannot
  const int error = errno;
  ::close(folder);
  if (!synced) return run_failed(path, "cannot be made durable: " + system_text(error));
  return {};
}

}  // namespace

Result<Bytes> free_space(const std::string& folder) {
  struct statvfs disk{};
  if (::statvfs(folder.c_str(), &disk) != 0) {
    return run_failed(folder, "its disk cannot be asked for free space: " + system_text(errno));
  }
  return Bytes{static_cast<std::int64_t>(disk.f_bavail) * static_cast<std::int64_t>(disk.f_frsize)};
}

OutputFile::OutputFile(std::string path, int descriptor, Bytes size)
    : path_(std::move(path)), descriptor_(descriptor), size_(size) {}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  if (this != &other) {
    discard();
    path_ = std::move(other.path_);
    descriptor_ = std::exchange(other.descriptor_, -1);
    size_ = other.size_;
  }
  return *this;
}

OutputFile::~OutputFile() { discard(); }

void OutputFile::discard() noexcept {
  if (descriptor_ < 0) return;
  ::unlink(partial_name(path_).c_str());
  ::close(std::exchange(descriptor_, -1));
}

Result<OutputFile> OutputFile::create(const std::string& path, Bytes size) {
  FTPLAN_CHECK(size.value >= 0);
  const int descriptor = ::open(partial_name(path).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor < 0) return run_failed(path, "cannot be written: " + system_text(errno));
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    ::close(descriptor);
    return run_failed(path, "another process is writing it");
  }
  OutputFile file(path, descriptor, size);
  if (auto reserved = file.reserve(); !reserved) return reserved.error();
  return file;
}

Result<void> OutputFile::reserve() {
  // What a killed process left behind must not stay at the end of the file, nor count as used
  // space.
  if (::ftruncate(descriptor_, 0) != 0) {
    return run_failed(path_, "cannot be written: " + system_text(errno));
  }
  const auto free = free_space(folder_of(path_));
  if (free && *free < size_) return disk_full(path_, size_, ENOSPC);
  if (size_.value == 0) return {};
  if (::fallocate(descriptor_, 0, 0, size_.value) == 0) return {};
  const bool unsupported = errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL;
  if (unsupported && ::ftruncate(descriptor_, size_.value) == 0) return {};
  return disk_full(path_, size_, errno);
}

Result<void> OutputFile::write_at(Bytes offset, std::span<const std::byte> bytes) {
  FTPLAN_CHECK(descriptor_ >= 0 && offset.value >= 0 &&
               offset.value + static_cast<std::int64_t>(bytes.size()) <= size_.value);
  std::int64_t at = offset.value;
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(), at);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0)
      return disk_full(path_, Bytes{size_.value - at}, written < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    at += written;
  }
  return {};
}

Result<void> OutputFile::commit() {
  FTPLAN_CHECK(descriptor_ >= 0);
  if (::fsync(descriptor_) != 0) return disk_full(path_, size_, errno);
  if (std::rename(partial_name(path_).c_str(), path_.c_str()) != 0) {
    return run_failed(path_, "cannot be put in place: " + system_text(errno));
  }
  ::close(std::exchange(descriptor_, -1));
  return sync_folder(path_);
}

}  // namespace ftplan::models

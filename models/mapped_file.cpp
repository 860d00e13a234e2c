#include "models/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "core/result.h"
#include "models/files.h"

namespace ftplan::models {
namespace {

Result<std::span<const std::byte>> map(int descriptor, const std::string& path) {
  struct stat status{};
  if (::fstat(descriptor, &status) != 0) {
    return bad_input(path, "cannot be read: " + system_text(errno));
  }
  if (!S_ISREG(status.st_mode)) return bad_input(path, "is not a file");
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return std::span<const std::byte>{};  // mmap refuses an empty range
  void* start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
  if (start == MAP_FAILED) return bad_input(path, "cannot be mapped: " + system_text(errno));
  return std::span(static_cast<const std::byte*>(start), size);
}

}  // namespace

MappedFile::MappedFile(std::string path, std::span<const std::byte> bytes)
    : path_(std::move(path)), bytes_(bytes) {}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return bad_input(path, "cannot be opened: " + system_text(errno));
  auto bytes = map(descriptor, path);
  ::close(descriptor);  // the mapping keeps the file
  if (!bytes) return bytes.error();
  return std::shared_ptr<const MappedFile>(new MappedFile(path, *bytes));
}

void MappedFile::release(std::span<const std::byte> part) const {
  if (part.empty()) return;
  // Rounded outward: a neighbour that shares a page is only read again.
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto before = reinterpret_cast<std::uintptr_t>(part.data()) % page;
  auto* begin = const_cast<std::byte*>(part.data()) - before;
  ::madvise(begin, part.size() + before, MADV_DONTNEED);
}

}  // namespace ftplan::models

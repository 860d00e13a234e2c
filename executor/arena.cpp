#include "executor/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "core/result.h"
#include "core/text.h"
#include "core/units.h"
#include "program/step_program.h"

namespace ftplan::executor {
namespace {

std::size_t page_size() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

}  // namespace

Result<Arena> Arena::map(Bytes size) {
  Arena arena;
  arena.size_ = round_up(size, program::kAlignment);
  const std::size_t page = page_size();
  const auto wanted = static_cast<std::size_t>(arena.size_.value);
  const std::size_t usable = (wanted + page - 1) / page * page;
  arena.mapped_ = usable + page;
  void* mapping =
      ::mmap(nullptr, arena.mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) {
    return Error{
        ErrorCode::kInfeasible, "arena",
        "the system does not give " + format_bytes(arena.size_) + ": " + std::strerror(errno)};
  }
  arena.mapping_ = mapping;
  auto* bytes = static_cast<std::byte*>(mapping);
  if (::mprotect(bytes + usable, page, PROT_NONE) != 0) {
    return Error{ErrorCode::kInfeasible, "arena",
                 std::string("no guard page: ") + std::strerror(errno)};
  }
  // All pages now: a step must not find out that there is no memory.
  if (usable > 0 && ::madvise(mapping, usable, MADV_POPULATE_WRITE) != 0 && errno == ENOMEM) {
    return Error{
        ErrorCode::kInfeasible, "arena",
        "no memory for " + format_bytes(arena.size_) + ": close other programs, or plan again"};
  }
  arena.base_ = bytes + (usable - wanted);
  return arena;
}

Arena::~Arena() {
  if (mapping_ != nullptr) ::munmap(mapping_, mapped_);
}

Arena::Arena(Arena&& other) noexcept { *this = std::move(other); }

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  std::swap(base_, other.base_);
  std::swap(size_, other.size_);
  return *this;
}

void Arena::fill(std::byte value) {
  if (size_.value > 0)
    std::memset(base_, static_cast<int>(value), static_cast<std::size_t>(size_.value));
}

Bytes Arena::highest_other_than(std::byte value) const {
  const auto all = bytes();
  const auto last = std::find_if(all.rbegin(), all.rend(), [&](std::byte b) { return b != value; });
  return Bytes{static_cast<std::int64_t>(all.rend() - last)};
}

}  // namespace ftplan::executor

#pragma once

#include <cstddef>
#include <span>

#include "core/result.h"
#include "core/units.h"

namespace ftplan::executor {

/// All bytes that a rank's programs use in one place. It ends on a page that nobody may touch, so
/// that the first byte beyond it faults.
class Arena {
 public:
  Arena() = default;
  /// @param size rounded up to the alignment of storages
  /// @error infeasible: the machine does not give that much
  static Result<Arena> map(Bytes size);

  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  [[nodiscard]] std::byte* base() const { return base_; }
  [[nodiscard]] Bytes size() const { return size_; }
  [[nodiscard]] std::span<std::byte> bytes() const {
    return {base_, static_cast<std::size_t>(size_.value)};
  }
  /// Sets all bytes; signalling-like patterns show what is read before it is written.
  void fill(std::byte value);
  /// One more than the last byte that is not `value`; 0 when all are.
  [[nodiscard]] Bytes highest_other_than(std::byte value) const;

 private:
  void* mapping_ = nullptr;
  std::size_t mapped_ = 0;
  std::byte* base_ = nullptr;
  Bytes size_;
};

}  // namespace ftplan::executor

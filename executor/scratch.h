#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>

#include "core/units.h"

namespace ftplan::executor {

/// An op asked for more scratch than its row declares.
class ScratchExceeded : public std::exception {
 public:
  ScratchExceeded(std::string operation, Bytes declared, Bytes wanted);
  [[nodiscard]] const char* what() const noexcept override { return text_.c_str(); }
  [[nodiscard]] const std::string& operation() const { return operation_; }

 private:
  std::string operation_;
  std::string text_;
};

/// Bytes that one op may use while it runs. Blocks are given out first fit and may come back in any
/// order, so that a sequence of requests needs the same bytes every time.
class Scratch {
 public:
  Scratch() = default;
  /// @param operation names who is to blame when `bytes` are not enough
  Scratch(std::span<std::byte> bytes, const char* operation)
      : bytes_(bytes), operation_(operation) {}

  /// @throws ScratchExceeded
  std::byte* take(std::int64_t size);
  /// False when `block` was not taken here.
  bool give_back(const void* block);

  template <class T>
  std::span<T> take_array(std::int64_t count) {
    return {reinterpret_cast<T*>(take(count * static_cast<std::int64_t>(sizeof(T)))),
            static_cast<std::size_t>(count)};
  }

  /// One more than the last byte that was given out so far.
  [[nodiscard]] Bytes used() const { return used_; }

 private:
  struct Block {
    std::int64_t begin = 0;
    std::int64_t end = 0;
  };
  static constexpr int kMostBlocks = 256;

  std::span<std::byte> bytes_;
  const char* operation_ = "";
  std::array<Block, kMostBlocks> blocks_{};  // ascending
  int count_ = 0;
  Bytes used_;
};

}  // namespace ftplan::executor

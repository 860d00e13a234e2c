#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ftplan::data {

/// Ids of pieces of text that were seen before. Most text is a few thousand words again and again,
/// so this table, not the model, decides the speed. One per thread; memory is bounded: a full cache
/// is emptied.
class PieceCache {
 public:
  /// Ids of `piece`, valid until the next `insert`.
  [[nodiscard]] std::optional<std::span<const std::int32_t>> find(std::string_view piece,
                                                                  std::uint64_t hash) const;

  /// Remembers `ids`; too long a piece is not worth its memory and is left out. @pre `find` found
  /// nothing
  void insert(std::string_view piece, std::uint64_t hash, std::span<const std::int32_t> ids);

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t key_begin = 0;
    std::uint32_t ids_begin = 0;
    std::uint16_t key_size = 0;  // 0: free
    std::uint16_t ids_size = 0;
  };

  [[nodiscard]] std::size_t place_of(std::string_view piece, std::uint64_t hash) const;
  void grow();
  void clear();

  std::vector<Slot> slots_;
  std::size_t used_ = 0;
  std::string keys_;
  std::vector<std::int32_t> ids_;
};

}  // namespace ftplan::data

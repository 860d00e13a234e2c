#include "data/piece_cache.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace ftplan::data {
namespace {

// Longer pieces hardly come twice.
constexpr std::size_t kLongestKey = 256;
// Limits of one cache: 16 MiB of keys, 32 MiB of slots.
constexpr std::size_t kMostKeyBytes = std::size_t{16} << 20U;
constexpr std::size_t kMostSlots = std::size_t{1} << 20U;
constexpr std::size_t kFirstSlots = std::size_t{1} << 12U;

}  // namespace

// Linear probing in a table that is never more than half full.
std::size_t PieceCache::place_of(std::string_view piece, std::uint64_t hash) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = static_cast<std::size_t>(hash) & mask;
  while (true) {
    const Slot& slot = slots_[at];
    if (slot.key_size == 0) return at;
    if (slot.hash == hash &&
        std::string_view(keys_).substr(slot.key_begin, slot.key_size) == piece) {
      return at;
    }
    at = (at + 1) & mask;
  }
}

std::optional<std::span<const std::int32_t>> PieceCache::find(std::string_view piece,
                                                              std::uint64_t hash) const {
  if (slots_.empty() || piece.size() > kLongestKey) return std::nullopt;
  const Slot& slot = slots_[place_of(piece, hash)];
  if (slot.key_size == 0) return std::nullopt;
  return std::span(ids_).subspan(slot.ids_begin, slot.ids_size);
}

void PieceCache::insert(std::string_view piece, std::uint64_t hash,
                        std::span<const std::int32_t> ids) {
  if (piece.empty() || piece.size() > kLongestKey) return;
  if (2 * (used_ + 1) > slots_.size()) grow();
  if (keys_.size() > kMostKeyBytes) clear();
  Slot& slot = slots_[place_of(piece, hash)];
  slot = {.hash = hash,
          .key_begin = static_cast<std::uint32_t>(keys_.size()),
          .ids_begin = static_cast<std::uint32_t>(ids_.size()),
          .key_size = static_cast<std::uint16_t>(piece.size()),
          .ids_size = static_cast<std::uint16_t>(ids.size())};
  keys_ += piece;
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  ++used_;
}

void PieceCache::grow() {
  if (slots_.size() >= kMostSlots) return clear();
  const std::vector<Slot> old =
      std::exchange(slots_, std::vector<Slot>(slots_.empty() ? kFirstSlots : 2 * slots_.size()));
  for (const Slot& slot : old) {
    if (slot.key_size == 0) continue;
    const std::string_view key = std::string_view(keys_).substr(slot.key_begin, slot.key_size);
    slots_[place_of(key, slot.hash)] = slot;
  }
}

void PieceCache::clear() {
  slots_.assign(slots_.size(), Slot{});
  used_ = 0;
  keys_.clear();
  ids_.clear();
}

}  // namespace ftplan::data

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

/// Dynamic storage allocation: offsets for things that conflict when they live at one time.
namespace ftplan::program {

struct PackItem {
  std::int64_t size = 0;
  std::int64_t duration = 0;  ///< any measure of how long it lives
  bool high = false;          ///< orders exist in which it stands above all others
};

/// Distances at which two items would overlap: `offset[b] - offset[a]` is not in the open interval
/// (low, high). Two solid items have one of (-size[b], size[a]); items with holes may have several.
struct Clash {
  std::size_t a = 0;
  std::size_t b = 0;
  std::int64_t low = 0;
  std::int64_t high = 0;
};

struct Packing {
  std::vector<std::int64_t> offsets;  ///< by item
  std::int64_t height = 0;
};

/// How long to search.
struct PackEffort {
  std::int64_t enough = 0;  ///< the search ends with a packing that costs no more
  int more_orders = 0;  ///< of the best order, its topmost item moved to the front again and again
};

/// First fit of `items` in a few orders, so that nothing clashes. Every candidate is given to
/// `cost`; the first cheapest wins.
/// @complexity O(c log c) in the clashes for each order
Packing pack(const std::vector<PackItem>& items, const std::vector<Clash>& clashes,
             const std::function<std::int64_t(const Packing&)>& cost, PackEffort effort = {});

}  // namespace ftplan::program

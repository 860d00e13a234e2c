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
};

struct Packing {
  std::vector<std::int64_t> offsets;  ///< by item
  std::int64_t height = 0;
};

/// First fit of `items` in a few orders, so that conflicting ones do not overlap. Every candidate is given to `cost`;
/// the first cheapest wins.
/// @complexity O(n^2) conflicts, then O(n^2 log n) for each order
Packing pack(const std::vector<PackItem>& items,
             const std::function<bool(std::size_t, std::size_t)>& conflict,
             const std::function<std::int64_t(const Packing&)>& cost);

}  // namespace ftplan::program

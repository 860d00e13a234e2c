#include "program/packer.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

namespace ftplan::program {
namespace {

using Neighbours = std::vector<std::vector<std::size_t>>;

// Puts each item at the lowest offset that is free beside those of its neighbours that stand already.
Packing first_fit(const std::vector<PackItem>& items, const Neighbours& neighbours,
                  const std::vector<std::size_t>& order) {
  constexpr std::int64_t kNowhere = -1;
  Packing packing{.offsets = std::vector<std::int64_t>(items.size(), kNowhere)};
  std::vector<std::pair<std::int64_t, std::int64_t>> taken;
  for (const std::size_t item : order) {
    taken.clear();
    for (const std::size_t other : neighbours[item]) {
      const std::int64_t begin = packing.offsets[other];
      if (begin != kNowhere) taken.emplace_back(begin, begin + items[other].size);
    }
    std::sort(taken.begin(), taken.end());
    std::int64_t offset = 0;
    for (const auto& [begin, end] : taken) {
      if (begin - offset >= items[item].size) break;
      offset = std::max(offset, end);
    }
    packing.offsets[item] = offset;
    packing.height = std::max(packing.height, offset + items[item].size);
  }
  return packing;
}

}  // namespace

Packing pack(const std::vector<PackItem>& items,
             const std::function<bool(std::size_t, std::size_t)>& conflict,
             const std::function<std::int64_t(const Packing&)>& cost) {
  const std::size_t count = items.size();
  Neighbours neighbours(count);
  for (std::size_t a = 0; a < count; ++a) {
    for (std::size_t b = a + 1; b < count; ++b) {
      if (!conflict(a, b)) continue;
      neighbours[a].push_back(b);
      neighbours[b].push_back(a);
    }
  }
  std::int64_t longest = 0;
  std::vector<std::int64_t> crowd(count);  // bytes of an item and all that it conflicts with
  for (std::size_t a = 0; a < count; ++a) {
    longest = std::max(longest, items[a].duration);
    crowd[a] = items[a].size;
    for (const std::size_t b : neighbours[a]) crowd[a] += items[b].size;
  }
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  Packing best;
  std::int64_t best_cost = -1;
  const auto by = [&](auto&& less) {
    std::stable_sort(order.begin(), order.end(), less);
    Packing packing = first_fit(items, neighbours, order);
    const std::int64_t found = cost(packing);
    if (best_cost >= 0 && found >= best_cost) return;
    best_cost = found;
    best = std::move(packing);
  };
  // What lives long stands low, so that the rest can end early.
  by([&](std::size_t a, std::size_t b) { return items[a].size > items[b].size; });
  by([&](std::size_t a, std::size_t b) {
    const bool a_long = 4 * items[a].duration > longest;
    const bool b_long = 4 * items[b].duration > longest;
    return a_long != b_long ? a_long : a_long && items[a].duration > items[b].duration;
  });
  by([&](std::size_t a, std::size_t b) { return items[a].duration > items[b].duration; });
  by([&](std::size_t a, std::size_t b) { return crowd[a] > crowd[b]; });
  return best;
}

}  // namespace ftplan::program

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

// What one item must keep away from: offsets in (other + low, other + high).
struct Neighbour {
  std::size_t other;
  std::int64_t low, high;
};

// Neighbours of all items in one list; those of item i are [first[i], first[i + 1]).
struct Neighbours {
  std::vector<std::size_t> first;
  std::vector<Neighbour> all;

  Neighbours(std::size_t items, const std::vector<Clash>& clashes)
      : first(items + 1), all(2 * clashes.size()) {
    for (const Clash& clash : clashes) {
      ++first[clash.a + 1];
      ++first[clash.b + 1];
    }
    std::partial_sum(first.begin(), first.end(), first.begin());
    std::vector<std::size_t> next(first.begin(), first.end() - 1);
    for (const Clash& clash : clashes) {
      all[next[clash.b]++] = {clash.a, clash.low, clash.high};
      all[next[clash.a]++] = {clash.b, -clash.high, -clash.low};
    }
  }
};

// Puts each item at the lowest offset that is free beside those of its neighbours that stand
// already.
class FirstFit {
 public:
  FirstFit(const std::vector<PackItem>& items, const Neighbours& neighbours)
      : items_(items), neighbours_(neighbours) {}

  Packing run(const std::vector<std::size_t>& order) {
    constexpr std::int64_t kNowhere = -1;
    Packing packing{.offsets = std::vector<std::int64_t>(items_.size(), kNowhere)};
    for (const std::size_t item : order) {
      forbidden_.clear();
      for (std::size_t n = neighbours_.first[item]; n < neighbours_.first[item + 1]; ++n) {
        const Neighbour& neighbour = neighbours_.all[n];
        const std::int64_t other = packing.offsets[neighbour.other];
        if (other != kNowhere && other + neighbour.high > 0) {
          forbidden_.emplace_back(other + neighbour.low, other + neighbour.high);
        }
      }
      std::sort(forbidden_.begin(), forbidden_.end());
      std::int64_t offset = 0;
      for (const auto& [low, high] : forbidden_) {
        if (low >= offset) break;
        offset = std::max(offset, high);
      }
      packing.offsets[item] = offset;
      packing.height = std::max(packing.height, offset + items_[item].size);
    }
    return packing;
  }

 private:
  const std::vector<PackItem>& items_;
  const Neighbours& neighbours_;
  std::vector<std::pair<std::int64_t, std::int64_t>> forbidden_;
};

}  // namespace

Packing pack(const std::vector<PackItem>& items, const std::vector<Clash>& clashes,
             const std::function<std::int64_t(const Packing&)>& cost, PackEffort effort) {
  const std::size_t count = items.size();
  const Neighbours neighbours(count, clashes);
  std::int64_t longest = 0;
  std::vector<std::int64_t> crowd(count);  // bytes of an item and of all that it clashes with
  for (std::size_t a = 0; a < count; ++a) {
    longest = std::max(longest, items[a].duration);
    crowd[a] = items[a].size;
    for (std::size_t n = neighbours.first[a]; n < neighbours.first[a + 1]; ++n) {
      crowd[a] += items[neighbours.all[n].other].size;
    }
  }
  FirstFit first_fit(items, neighbours);
  Packing best;
  std::int64_t best_cost = -1;
  std::vector<std::size_t> order(count);
  std::vector<std::size_t> best_order;
  const auto done = [&] { return best_cost >= 0 && best_cost <= effort.enough; };
  const auto keep_if_cheaper = [&](const Packing& packing) {
    const std::int64_t found = cost(packing);
    if (best_cost >= 0 && found >= best_cost) return;
    best_cost = found;
    best = packing;
    best_order = order;
  };
  const auto by = [&](auto&& less) {
    if (done()) return;
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), less);
    keep_if_cheaper(first_fit.run(order));
  };
  const auto by_size = [&](std::size_t a, std::size_t b) { return items[a].size > items[b].size; };
  const auto by_duration = [&](std::size_t a, std::size_t b) {
    return items[a].duration > items[b].duration;
  };
  const auto long_ones_first = [&](std::size_t a, std::size_t b) {
    const bool a_long = 4 * items[a].duration > longest;
    const bool b_long = 4 * items[b].duration > longest;
    return a_long != b_long ? a_long : a_long && items[a].duration > items[b].duration;
  };
  const auto by_crowd = [&](std::size_t a, std::size_t b) { return crowd[a] > crowd[b]; };
  const auto high_last = [&](auto&& less) {
    return [&, less](std::size_t a, std::size_t b) {
      return items[a].high != items[b].high ? items[b].high : less(a, b);
    };
  };
  // What lives long stands low, so that the rest can end early.
  by(by_size);
  by(long_ones_first);
  by(by_duration);
  by(by_crowd);
  if (std::any_of(items.begin(), items.end(), [](const PackItem& item) { return item.high; })) {
    by(high_last(by_size));
    by(high_last(long_ones_first));
    by(high_last(by_duration));
    by(high_last(by_crowd));
  }
  order = best_order;
  Packing packing = best;
  for (int i = 0; i < effort.more_orders && !order.empty() && !done(); ++i) {
    const auto end_of = [&](std::size_t item) { return packing.offsets[item] + items[item].size; };
    const auto top =
        std::max_element(order.begin(), order.end(),
                         [&](std::size_t a, std::size_t b) { return end_of(a) < end_of(b); });
    std::rotate(order.begin(), top, top + 1);
    packing = first_fit.run(order);
    keep_if_cheaper(packing);
  }
  return best;
}

}  // namespace ftplan::program

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/result.h"
#include "core/units.h"
#include "program/lifetimes.h"
#include "program/lowering.h"
#include "program/op_table.h"
#include "program/packer.h"
#include "program/passes/passes.h"
#include "program/step_program.h"
#include "program/walk.h"

// Note [Arena]
//
//   0                                                                                arena
//   | persistent | scratch | work region, packed | stack of kept values ->   <- gradients |
//                                                 layer 0, 1, 2 ...      ... layer 1, 2 ... edges
//
// The forward pushes what each layer keeps; the backward pops it while gradients grow into what it
// frees. The arena ends where, at the worst instant, both meet. Where the stack is small beside the
// work region it stands below it instead. Everything of a layer has an offset that is affine in the
// layer.

namespace ftplan::program {
namespace {

class Layouter {
 public:
  explicit Layouter(Lowering& lowering)
      : low_(lowering), program_(lowering.program), walk_(lowering.steps), lives_(lowering.lives) {
    find_copy_lives();
    find_step_lives();
    stack_gradients();
    find_depths();
    find_low_copies();
  }

  void run() {
    place_persistent();
    place_scratch();
    for (const Place place : {Place::kHost, Place::kDisk}) {
      items_ = work_items(place);
      const std::int64_t base = arena(place);
      arena(place) += pack_items([&](const Packing& packing) {
        set_offsets(packing, base);
        return packing.height;
      });
    }
    place_device();
  }

 private:
  std::int64_t& arena(Place place) { return program_.arena[static_cast<std::size_t>(place)].value; }
  Storage& storage(StorageId id) { return program_.storages[static_cast<std::size_t>(id)]; }

  void place_persistent() {
    for (Storage& s : program_.storages) {
      if (s.region != Region::kPersistent) continue;
      s.offset = {arena(s.place)};
      s.stride = accounted(s);
      arena(s.place) += s.copies.count * s.stride.value;
    }
    program_.persistent = program_.arena;
  }

  void place_scratch() {
    for (const Instruction& instruction : program_.instructions) {
      const OpView view{program_, instruction};
      const Bytes need = row_of(instruction.op).scratch(view, low_.machine).bytes;
      Bytes& size = program_.scratch[static_cast<std::size_t>(instruction.stream)];
      size = std::max(size, round_up(need, kAlignment));
    }
    for (std::size_t stream = 0; stream < kStreams; ++stream) {
      program_.scratch_offset[stream] = {arena(Place::kDevice)};
      arena(Place::kDevice) += program_.scratch[stream].value;
    }
  }

  // The packing and the order of its two low parts decide where the arena ends.
  void place_device() {
    items_ = work_items(Place::kDevice);
    arena(Place::kDevice) = pack_items([&](const Packing& packing) {
      const std::int64_t work_low = place_dynamic(packing, /*stack_low=*/false);
      const std::int64_t stack_low = place_dynamic(packing, /*stack_low=*/true);
      return stack_low < work_low ? stack_low : place_dynamic(packing, /*stack_low=*/false);
    });
  }

  // Returns the end of the arena.
  std::int64_t place_dynamic(const Packing& packing, bool stack_low) {
    const std::int64_t base = arena(Place::kDevice);
    const std::int64_t stack_end = place_stack(stack_low ? base : base + packing.height);
    set_offsets(packing, stack_low ? stack_end : base);
    const std::int64_t top = lowest_top(base);
    for (std::size_t i = 0; i < blocks_.size(); ++i)
      storage(blocks_[i]).offset = {top - depth_of_[i]};
    return top;
  }

  // What the packer moves as one: a storage with its copies, one of a pair of copies, or all that
  // the layers of a recomputed group keep.
  struct Item {
    std::vector<StorageId> members;
    std::int64_t stride = 0;  // from one copy of all members to the next
    std::int32_t copies = 1;
    std::int32_t copy = kNone;  // of a pair
    [[nodiscard]] bool is_group() const { return members.size() > 1; }
    [[nodiscard]] std::int64_t size() const { return copies * stride; }
  };

  [[nodiscard]] bool is_kept_by_group(const Storage& s) const {
    const std::int64_t every = low_.strategy.checkpointing.every;
    return every > 1 && s.copies.count == every && s.category != Category::kGradients &&
           s.category != Category::kGathered;
  }

  // Two copies of what is gathered or travels are often not held together, and any two places are
  // an offset and a stride.
  static bool is_pair(const Storage& s) {
    return s.region == Region::kWork && s.copies.count == 2 &&
           (s.category == Category::kGathered || s.category == Category::kGradients);
  }

  [[nodiscard]] bool has_rows(const Storage& s) const { return is_kept_by_group(s) || is_pair(s); }

  std::vector<Item> work_items(Place place) {
    std::vector<Item> items;
    Item group;
    for (std::size_t i = 0; i < program_.storages.size(); ++i) {
      const Storage& s = program_.storages[i];
      const auto id = static_cast<StorageId>(i);
      if (s.region != Region::kWork || s.place != place || duration(id) == 0) continue;
      if (is_kept_by_group(s)) {
        group.members.push_back(id);
        group.stride += accounted(s).value;
        group.copies = s.copies.count;
      } else if (is_pair(s)) {
        for (std::int32_t copy = 0; copy < 2; ++copy)
          items.push_back({{id}, accounted(s).value, 1, copy});
      } else {
        items.push_back({{id}, accounted(s).value, s.copies.count});
      }
    }
    if (!group.members.empty()) items.push_back(group);
    return items;
  }

  // Gathered units are few and large, so one that stands badly costs much.
  [[nodiscard]] PackEffort effort() const {
    return {.more_orders = program_.gathered.empty() ? 0 : kMoreOrders};
  }
  static constexpr int kMoreOrders = 16;

  // The head's gradient is on its way when those of the layers begin to fill the top.
  [[nodiscard]] bool leaves_early(const Item& item) const {
    const Storage& s = program_.storages[static_cast<std::size_t>(item.members[0])];
    return !program_.gathered.empty() && s.category == Category::kGradients && s.copies.count == 1;
  }

  // Leaves the cheapest packing in place; returns its cost.
  template <class Cost>
  std::int64_t pack_items(const Cost& cost) {
    std::vector<PackItem> sizes;
    for (const Item& item : items_) {
      std::int64_t longest = 0;
      for (const StorageId id : item.members) longest = std::max(longest, duration(id));
      sizes.push_back({item.size(), longest, item.is_group() || leaves_early(item)});
    }
    const Packing packing = pack(sizes, clashes(), cost, effort());
    return cost(packing);
  }

  std::vector<Clash> clashes() const {
    std::vector<Clash> found;
    for (std::size_t a = 0; a < items_.size(); ++a) {
      for (std::size_t b = a + 1; b < items_.size(); ++b) {
        if (items_[b].is_group()) {
          add_clashes_with_group(a, b, found);
        } else if (live_together(items_[a], items_[b])) {
          found.push_back({a, b, -items_[b].size(), items_[a].size()});
        }
      }
    }
    return found;
  }

  // Layers of a group free what they kept one after the other: beside an item that lives late there
  // is room in it.
  void add_clashes_with_group(std::size_t a, std::size_t group, std::vector<Clash>& found) const {
    const Item& g = items_[group];
    std::int64_t begin = 0;
    for (const StorageId member : g.members) {
      const std::int64_t size =
          accounted(program_.storages[static_cast<std::size_t>(member)]).value;
      for (std::int32_t copy = 0; copy < g.copies; ++copy) {
        if (!overlap(positions_of(items_[a]), positions_of(member, copy))) continue;
        const std::int64_t low = begin + copy * g.stride;
        // offset[group] + low < offset[a] + size[a] and offset[a] < offset[group] + low + size
        found.push_back({group, a, low - items_[a].size(), low + size});
      }
      begin += size;
    }
  }

  // The positions at which one copy lives, or all that an item holds.
  [[nodiscard]] const std::uint64_t* positions_of(StorageId member, std::int32_t copy) const {
    return copy_lives_.data() +
           (first_of_member_[static_cast<std::size_t>(member)] + copy) * program_.live.words;
  }
  [[nodiscard]] const std::uint64_t* positions_of(const Item& item) const {
    if (item.copy != kNone) return positions_of(item.members[0], item.copy);
    return program_.live.bits.data() +
           static_cast<std::ptrdiff_t>(item.members[0]) * program_.live.words;
  }

  // All runs of an instruction have one position. What is gathered or travels goes from layer to
  // layer, so two of such are compared step by step.
  [[nodiscard]] bool live_together(const Item& a, const Item& b) const {
    const std::uint64_t* left = steps_of(a);
    const std::uint64_t* right = steps_of(b);
    return left != nullptr && right != nullptr ? overlap(left, right, step_words_)
                                               : overlap(positions_of(a), positions_of(b));
  }

  // Null where steps are not told apart.
  [[nodiscard]] const std::uint64_t* steps_of(const Item& item) const {
    const std::ptrdiff_t row = first_step_row_[static_cast<std::size_t>(item.members[0])];
    if (item.is_group() || row < 0) return nullptr;
    return step_lives_.data() + (row + std::max(item.copy, 0)) * step_words_;
  }

  void find_step_lives() {
    step_words_ = static_cast<std::int32_t>((walk_.steps.size() + 63) / 64);
    first_step_row_.assign(program_.storages.size(), -1);
    std::ptrdiff_t rows = 0;
    for (std::size_t i = 0; i < program_.storages.size(); ++i) {
      const Storage& s = program_.storages[i];
      const bool goes = s.category == Category::kGathered || s.category == Category::kGradients;
      if (!goes || s.region != Region::kWork || s.copies.count > 2) continue;
      first_step_row_[i] = rows;
      rows += s.copies.count;
    }
    step_lives_.assign(static_cast<std::size_t>(rows * step_words_), 0);
    for (const Life& life : lives_) {
      const std::ptrdiff_t row = first_step_row_[static_cast<std::size_t>(life.storage)];
      if (row < 0) continue;
      auto* words = step_lives_.data() + (row + life.copy) * step_words_;
      for (std::int32_t i = life.begin; i <= life.end; ++i)
        words[i / 64] |= std::uint64_t{1} << (i % 64);
    }
  }

  [[nodiscard]] bool overlap(const std::uint64_t* left, const std::uint64_t* right) const {
    return overlap(left, right, program_.live.words);
  }
  static bool overlap(const std::uint64_t* left, const std::uint64_t* right, std::int32_t words) {
    for (std::int32_t w = 0; w < words; ++w) {
      if ((left[w] & right[w]) != 0) return true;
    }
    return false;
  }

  // Positions at which each copy of what groups keep, and of pairs, lives.
  void find_copy_lives() {
    const LiveSets& sets = program_.live;
    first_of_member_.assign(program_.storages.size(), 0);
    std::ptrdiff_t rows = 0;
    for (std::size_t i = 0; i < program_.storages.size(); ++i) {
      first_of_member_[i] = rows;
      if (has_rows(program_.storages[i])) rows += program_.storages[i].copies.count;
    }
    copy_lives_.assign(static_cast<std::size_t>(rows * sets.words), 0);
    for (const Life& life : lives_) {
      if (!has_rows(storage(life.storage))) continue;
      auto* row =
          copy_lives_.data() +
          (first_of_member_[static_cast<std::size_t>(life.storage)] + life.copy) * sets.words;
      mark_positions(walk_, life.begin, life.end, row);
    }
  }

  void set_offsets(const Packing& packing, std::int64_t base) {
    for (std::size_t i = 0; i < packing.offsets.size(); ++i) {
      std::int64_t begin = base + packing.offsets[i];
      if (items_[i].copy == 1) {
        Storage& pair = storage(items_[i].members[0]);
        pair.stride = {begin - pair.offset.value};
        continue;
      }
      for (const StorageId id : items_[i].members) {
        storage(id).offset = {begin};
        storage(id).stride = {items_[i].stride};
        begin += accounted(storage(id)).value;
      }
    }
  }

  // Positions at which a storage lives.
  [[nodiscard]] std::int64_t duration(StorageId id) const {
    const LiveSets& sets = program_.live;
    const auto* row = sets.bits.data() + static_cast<std::ptrdiff_t>(id) * sets.words;
    return std::accumulate(
        row, row + sets.words, std::int64_t{0},
        [](std::int64_t sum, std::uint64_t word) { return sum + std::popcount(word); });
  }

  // What one layer keeps stands side by side, layer after layer. Returns the end of the last.
  std::int64_t place_stack(std::int64_t base) {
    std::int64_t end = base;
    std::int64_t layer = 0;
    for (Storage& s : program_.storages) {
      if (s.region != Region::kStack) continue;
      s.offset = {base + layer};
      layer += accounted(s).value;
    }
    for (Storage& s : program_.storages) {
      if (s.region != Region::kStack) continue;
      s.stride = {layer};
      end = std::max(end, s.offset.value + (s.copies.count - 1) * layer + accounted(s).value);
    }
    return end;
  }

  // Blocks of gradients from the top down, in order of their birth; offsets are below the top until
  // it is known. Blocks with a copy for each of the same layers stand layer by layer.
  void stack_gradients() {
    std::vector<bool> seen(program_.storages.size(), false);
    std::vector<std::vector<StorageId>> groups;
    for (const Life& life : lives_) {
      const Storage& s = storage(life.storage);
      const auto id = static_cast<std::size_t>(life.storage);
      if (s.region != Region::kGradients || seen[id]) continue;
      seen[id] = true;
      const auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& other) {
        return s.copies.count > 1 && storage(other.front()).copies == s.copies;
      });
      if (group == groups.end()) {
        groups.push_back({life.storage});
      } else {
        group->push_back(life.storage);
      }
    }
    std::int64_t below = 0;
    for (const auto& group : groups) {
      Bytes stride;
      for (const StorageId id : group) stride += accounted(storage(id));
      below += storage(group.front()).copies.count * stride.value;
      std::int64_t depth = below;
      for (const StorageId id : group) {
        storage(id).stride = stride;
        blocks_.push_back(id);
        depth_of_.push_back(depth);
        depth -= accounted(storage(id)).value;
      }
    }
  }

  // The gradients' depth below the top, as steps at which it changes.
  void find_depths() {
    std::vector<std::pair<std::int32_t, std::int64_t>>
        changes;  // (step, depth that begins, or minus one that ends)
    for (const Life& life : lives_) {
      const Storage& s = storage(life.storage);
      if (s.region != Region::kGradients) continue;
      const auto block = std::find(blocks_.begin(), blocks_.end(), life.storage) - blocks_.begin();
      const std::int64_t depth = depth_of_[static_cast<std::size_t>(block)] -
                                 true_copy(s.copies, life.copy) * s.stride.value;
      changes.emplace_back(life.begin, depth);
      changes.emplace_back(life.end + 1, -depth);
    }
    std::sort(changes.begin(), changes.end());
    std::vector<std::int64_t> open;  // ascending
    depths_ = {{0, 0}};
    for (const auto& [step, depth] : changes) {
      if (depth < 0) {
        open.erase(std::lower_bound(open.begin(), open.end(), -depth));
      } else {
        open.insert(std::lower_bound(open.begin(), open.end(), depth), depth);
      }
      if (depths_.back().first != step) depths_.emplace_back(step, 0);
      depths_.back().second = open.empty() ? 0 : open.back();
    }
  }

  [[nodiscard]] std::int64_t greatest_depth(std::int32_t begin, std::int32_t end) const {
    const auto after = [](std::int32_t step, const std::pair<std::int32_t, std::int64_t>& change) {
      return step < change.first;
    };
    auto change = std::upper_bound(depths_.begin(), depths_.end(), begin, after) - 1;
    std::int64_t greatest = 0;
    for (; change != depths_.end() && change->first <= end; ++change)
      greatest = std::max(greatest, change->second);
    return greatest;
  }

  // One copy of a storage of the low part, and how deep gradients reach while it lives.
  struct LowCopy {
    StorageId storage;
    std::int32_t copy;
    std::int64_t depth;
  };

  void find_low_copies() {
    std::vector<std::int32_t> first(program_.storages.size() + 1, 0);
    for (std::size_t i = 0; i < program_.storages.size(); ++i)
      first[i + 1] = first[i] + program_.storages[i].copies.count;
    std::vector<std::int32_t> known(static_cast<std::size_t>(first.back()), kNone);
    for (const Life& life : lives_) {
      const Storage& s = storage(life.storage);
      if (s.place != Place::kDevice || s.region == Region::kGradients) continue;
      const std::int32_t copy =
          s.region == Region::kWork ? life.copy : true_copy(s.copies, life.copy);
      const std::int64_t depth = greatest_depth(life.begin, life.end);
      const std::int32_t slot = first[static_cast<std::size_t>(life.storage)] + copy;
      std::int32_t& at = known[static_cast<std::size_t>(slot)];
      if (at == kNone) {
        at = static_cast<std::int32_t>(low_copies_.size());
        low_copies_.push_back({life.storage, copy, depth});
      } else {
        low_copies_[static_cast<std::size_t>(at)].depth =
            std::max(low_copies_[static_cast<std::size_t>(at)].depth, depth);
      }
    }
  }

  // The lowest top for which no gradient reaches into what is below it at any step.
  [[nodiscard]] std::int64_t lowest_top(std::int64_t base) const {
    std::int64_t top = base + greatest_depth(0, static_cast<std::int32_t>(walk_.steps.size()));
    for (const LowCopy& low : low_copies_) {
      const Storage& s = program_.storages[static_cast<std::size_t>(low.storage)];
      top = std::max(top,
                     s.offset.value + low.copy * s.stride.value + accounted(s).value + low.depth);
    }
    return top;
  }

  // The copy that a compact copy number means when no layer is left out.
  [[nodiscard]] std::int32_t true_copy(Copies copies, std::int32_t compact) const {
    const std::int32_t layer = copies.first + compact * copies.every;
    return (walk_.layer_of(layer) - copies.first) / copies.every;
  }

  Lowering& low_;
  StepProgram& program_;
  const Walk& walk_;
  const std::vector<Life>& lives_;
  std::vector<Item> items_;
  std::vector<StorageId> blocks_;       // of gradients, from the top down
  std::vector<std::int64_t> depth_of_;  // of each block's first copy
  std::vector<std::pair<std::int32_t, std::int64_t>> depths_;
  std::vector<LowCopy> low_copies_;
  std::vector<std::ptrdiff_t> first_of_member_;  // row in copy_lives_, by storage
  std::vector<std::uint64_t> copy_lives_;
  std::vector<std::ptrdiff_t> first_step_row_;  // in step_lives_, by storage, or -1
  std::vector<std::uint64_t> step_lives_;
  std::int32_t step_words_ = 0;  // of 64 steps, for one copy
};

}  // namespace

Result<void> lay_out(Lowering& lowering) {
  Layouter(lowering).run();
  return {};
}

}  // namespace ftplan::program

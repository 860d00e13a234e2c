#include "executor/trace.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "core/category.h"
#include "core/units.h"
#include "executor/session.h"
#include "program/step_program.h"

namespace ftplan::executor {
namespace {

constexpr std::int64_t kLine = program::kAlignment.value;

// Bytes [from, to) that hold a value from step `begin` to step `end`.
struct Held {
  std::int32_t begin = 0;
  std::int32_t end = 0;
  std::int64_t from = 0;
  std::int64_t to = 0;
};

// Bytes of the lines that the ranges touch together.
std::int64_t covered(std::vector<Held>::iterator first, std::vector<Held>::iterator last) {
  std::sort(first, last, [](const Held& a, const Held& b) { return a.from < b.from; });
  std::int64_t sum = 0;
  std::int64_t end = 0;
  for (auto held = first; held != last; ++held) {
    const std::int64_t to = round_up(held->to, kLine);
    sum += std::max<std::int64_t>(0, to - std::max(held->from / kLine * kLine, end));
    end = std::max(end, to);
  }
  return sum;
}

}  // namespace

void Trace::touch(std::int32_t begin, std::int32_t end, program::StorageId storage,
                  std::int32_t copy, const std::byte* data, Bytes size, Access access) {
  if (size.value == 0) return;
  const std::lock_guard lock(mutex_);
  const Place place = program_.storages[static_cast<std::size_t>(storage)].place;
  const std::int64_t from = data - arenas_.of(place).base();
  events_[{storage, copy}].push_back({begin, end, from, from + size.value, access});
  last_ = std::max(last_, end);
}

void Trace::scratch(program::Stream stream, Bytes used) {
  const std::lock_guard lock(mutex_);
  Bytes& most = scratch_[static_cast<std::size_t>(stream)];
  most = std::max(most, used);
}

namespace {

// From accesses to values, cut where ranges begin and end.
template <class Events>
std::vector<Held> values_of(Events events, bool across_runs, std::int32_t last) {
  std::stable_sort(events.begin(), events.end(),
                   [](const auto& a, const auto& b) { return a.begin < b.begin; });
  std::vector<std::int64_t> cuts;
  for (const auto& event : events) {
    cuts.push_back(event.from);
    cuts.push_back(event.to);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  std::vector<Held> values;
  for (std::size_t cut = 0; cut + 1 < cuts.size(); ++cut) {
    Held value{-1, -1, cuts[cut], cuts[cut + 1]};
    for (const auto& event : events) {
      if (event.from > value.from || event.to < value.to) continue;
      if (across_runs || (value.begin < 0 && event.access != Access::kDefine)) {
        value.begin = 0;
        value.end = last;
        break;
      }
      if (event.access == Access::kDefine && value.begin != event.begin) {
        if (value.begin >= 0) values.push_back(value);
        value.begin = event.begin;
        value.end = event.end;
      }
      value.end = std::max(value.end, event.end);
    }
    if (value.begin >= 0) values.push_back(value);
  }
  return values;
}

}  // namespace

PlaceBytes Trace::at_peak(Place place) const {
  std::vector<std::array<std::int64_t, kCategories>> change(static_cast<std::size_t>(last_) + 2);
  for (const auto& [owner, events] : events_) {
    const program::Storage& storage = program_.storages[static_cast<std::size_t>(owner.first)];
    if (storage.place != place) continue;
    const auto category = static_cast<std::size_t>(storage.category);
    std::vector<Held> values =
        values_of(events, storage.region == program::Region::kPersistent, last_);
    std::sort(values.begin(), values.end(),
              [](const Held& a, const Held& b) { return a.begin < b.begin; });
    for (auto first = values.begin(); first != values.end();) {
      auto end = first->end;
      auto next = first + 1;
      for (; next != values.end() && next->begin <= end; ++next) end = std::max(end, next->end);
      const std::int32_t begin = first->begin;
      const std::int64_t bytes = covered(first, next);
      change[static_cast<std::size_t>(begin)][category] += bytes;
      change[static_cast<std::size_t>(end) + 1][category] -= bytes;
      first = next;
    }
  }
  std::array<std::int64_t, kCategories> now{};
  std::array<std::int64_t, kCategories> most{};
  std::int64_t largest = -1;
  for (std::size_t step = 0; step <= static_cast<std::size_t>(last_); ++step) {
    std::int64_t sum = 0;
    for (std::size_t c = 0; c < kCategories; ++c) sum += now[c] += change[step][c];
    if (sum <= largest) continue;
    largest = sum;
    most = now;
  }
  PlaceBytes bytes;
  for (std::size_t c = 0; c < kCategories; ++c) bytes[static_cast<Category>(c)] = Bytes{most[c]};
  if (place == Place::kDevice) {
    for (const Bytes used : scratch_) bytes.scratch += round_up(used, program::kAlignment);
  }
  return bytes;
}

Bytes Trace::highest(Place place) const {
  Bytes most;
  for (const auto& [owner, events] : events_) {
    if (program_.storages[static_cast<std::size_t>(owner.first)].place != place) continue;
    for (const Event& event : events)
      most = std::max(most, round_up(Bytes{event.to}, program::kAlignment));
  }
  return most;
}

}  // namespace ftplan::executor

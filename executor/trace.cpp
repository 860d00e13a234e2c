#include "executor/trace.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "core/category.h"
#include "core/units.h"
#include "program/step_program.h"

namespace ftplan::executor {
namespace {

constexpr std::int64_t kLine = program::kAlignment.value;

}  // namespace

void Trace::touch(std::int32_t begin, std::int32_t end, const program::Storage& storage, const std::byte* data,
                  Bytes size, Access access) {
  if (size.value == 0) return;
  const std::lock_guard lock(mutex_);
  const std::int64_t from = data - arenas_.of(storage.place).base();
  const Event event{begin, end, from / kLine * kLine, round_up(from + size.value, kLine), storage.category, access};
  (storage.place == Place::kDevice ? device_ : host_).push_back(event);
  last_ = std::max(last_, end);
}

void Trace::scratch(program::Stream stream, Bytes used) {
  const std::lock_guard lock(mutex_);
  Bytes& most = scratch_[static_cast<std::size_t>(stream)];
  most = std::max(most, used);
}

PlaceBytes Trace::at_peak(Place place) const {
  std::vector<Event> events = events_of(place);
  std::stable_sort(events.begin(), events.end(), [](const Event& a, const Event& b) { return a.begin < b.begin; });
  // Bytes with equal history lie between neighbouring ends of ranges.
  std::vector<std::int64_t> cuts;
  for (const Event& event : events) {
    cuts.push_back(event.from);
    cuts.push_back(event.to);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());

  struct Value {
    std::int32_t begin = -1;  // -1: nothing yet
    std::int32_t end = -1;
    Category category = Category::kActivations;
  };
  std::vector<Value> values(cuts.size());
  std::vector<std::array<std::int64_t, kCategories>> change(static_cast<std::size_t>(last_) + 2);
  const auto live = [&](std::size_t cut, const Value& value) {
    if (value.begin < 0) return;
    const std::int64_t bytes = cuts[cut + 1] - cuts[cut];
    const auto category = static_cast<std::size_t>(value.category);
    change[static_cast<std::size_t>(value.begin)][category] += bytes;
    change[static_cast<std::size_t>(value.end) + 1][category] -= bytes;
  };
  std::vector<bool> across(cuts.size(), false);
  for (const Event& event : events) {
    const auto first = static_cast<std::size_t>(std::lower_bound(cuts.begin(), cuts.end(), event.from) - cuts.begin());
    for (std::size_t cut = first; cuts[cut] < event.to; ++cut) {
      Value& value = values[cut];
      if (across[cut]) continue;
      if (value.begin < 0 && event.access != Access::kDefine) {
        across[cut] = true;
        value = {0, last_, event.category};
        continue;
      }
      // Several outputs of one step may share lines; the same step never ends its own value.
      if (event.access == Access::kDefine && value.begin != event.begin) {
        live(cut, value);
        value = {event.begin, event.end, event.category};
      }
      value.end = std::max(value.end, event.end);
    }
  }
  for (std::size_t cut = 0; cut + 1 < cuts.size(); ++cut) live(cut, values[cut]);

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
  for (const Event& event : events_of(place)) most = std::max(most, Bytes{event.to});
  return most;
}

}  // namespace ftplan::executor

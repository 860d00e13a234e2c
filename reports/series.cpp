#include "reports/series.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "core/category.h"
#include "core/text.h"
#include "core/timeline.h"
#include "core/units.h"

namespace ftplan::reports {
namespace {

// The smallest of 1, 2, 5 times a power of ten that is not below `rough`.
double round_step(double rough) {
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

int decimals_of(double step) {
  return std::max(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9)));
}

}  // namespace

std::vector<std::size_t> thin(std::size_t count, std::size_t buckets, std::size_t keep,
                              const std::function<double(std::size_t)>& value) {
  std::vector<std::size_t> kept;
  if (count <= 2 * buckets) {
    for (std::size_t i = 0; i < count; ++i) kept.push_back(i);
    return kept;
  }
  kept = {0, count - 1, keep};
  for (std::size_t bucket = 0; bucket < buckets; ++bucket) {
    const std::size_t begin = bucket * count / buckets;
    const std::size_t end = (bucket + 1) * count / buckets;
    std::size_t low = begin, high = begin;
    for (std::size_t i = begin; i < end; ++i) {
      if (value(i) < value(low)) low = i;
      if (value(i) > value(high)) high = i;
    }
    kept.push_back(low);
    kept.push_back(high);
  }
  std::sort(kept.begin(), kept.end());
  kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
  return kept;
}

std::vector<double> begin_of(const std::vector<std::size_t>& kept, std::size_t count,
                             std::size_t buckets) {
  const std::size_t parts = kept.size() == count ? count : buckets;
  // The bucket whose [b * count / parts, (b + 1) * count / parts) holds i.
  const auto bucket_of = [&](std::size_t i) { return ((i + 1) * parts - 1) / count; };
  std::vector<double> begins;
  for (std::size_t first = 0; first < kept.size();) {
    const std::size_t bucket = bucket_of(kept[first]);
    std::size_t last = first;
    while (last < kept.size() && bucket_of(kept[last]) == bucket) ++last;
    for (std::size_t i = first; i < last; ++i) {
      const double share = static_cast<double>(i - first) / static_cast<double>(last - first);
      begins.push_back((static_cast<double>(bucket) + share) / static_cast<double>(parts));
    }
    first = last;
  }
  return begins;
}

Bytes held(const Instant& instant) { return instant.device.live() + instant.device.runtime; }

std::size_t peak_of(const Timeline& timeline) {
  const auto given = static_cast<std::size_t>(timeline.peak);
  if (timeline.peak >= 0 && given < timeline.instants.size()) return given;
  const auto largest =
      std::max_element(timeline.instants.begin(), timeline.instants.end(),
                       [](const Instant& a, const Instant& b) { return held(a) < held(b); });
  return static_cast<std::size_t>(largest - timeline.instants.begin());
}

std::vector<Tick> byte_ticks(Bytes largest) {
  struct Unit {
    Bytes bytes;
    const char* name;
  };
  Unit unit{.bytes = {1}, .name = " B"};
  for (const Unit& larger : {Unit{kKiB, " KiB"}, Unit{kMiB, " MiB"}, Unit{kGiB, " GiB"}}) {
    if (largest >= larger.bytes) unit = larger;
  }
  const auto one = static_cast<double>(unit.bytes.value);
  const double top = std::max(1.0, static_cast<double>(largest.value) / one);
  const double step = round_step(top / 6);
  std::vector<Tick> ticks;
  for (int i = 0; ticks.empty() || ticks.back().value < top * one; ++i) {
    const std::string label = i == 0 ? "0" : format_fixed(i * step, decimals_of(step)) + unit.name;
    ticks.push_back({.value = i * step * one, .label = label});
  }
  return ticks;
}

std::vector<Tick> number_ticks(double low, double high) {
  if (!(high > low)) {
    const double around = std::max(std::abs(low) / 10, 1e-6);
    low -= around;
    high += around;
  }
  const double step = round_step((high - low) / 5);
  std::vector<Tick> ticks;
  for (double i = std::floor(low / step + 1e-9);
       ticks.empty() || ticks.back().value < high - step * 1e-9; ++i) {
    ticks.push_back({.value = i * step, .label = format_fixed(i * step, decimals_of(step))});
  }
  return ticks;
}

}  // namespace ftplan::reports

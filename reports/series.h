#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "core/timeline.h"
#include "core/units.h"

/// Numbers made ready for a chart.
namespace ftplan::reports {

/// Indices of at most `2 * buckets + 3` of `count` values, ascending: the first, the last, `keep`,
/// and the smallest and largest of each bucket, so that no peak and no valley wider than a bucket
/// is lost. All when they are few.
std::vector<std::size_t> thin(std::size_t count, std::size_t buckets, std::size_t keep,
                              const std::function<double(std::size_t)>& value);

/// Where each of `kept` begins on an axis from 0 to 1. All of `count`: where it is. Thinned: those
/// of one bucket share it evenly, so that none is too narrow to be seen.
std::vector<double> begin_of(const std::vector<std::size_t>& kept, std::size_t count,
                             std::size_t buckets);

/// What an instant holds: live categories and runtime. Reserved but unused bytes are left out.
Bytes held(const Instant& instant);

/// Where most bytes are held: `Timeline::peak` when it names an instant, else found. @pre there is
/// an instant
std::size_t peak_of(const Timeline& timeline);

struct Tick {
  double value = 0;
  std::string label;
};

/// Ticks from 0 to at least `largest`, 4 to 8 of them, in one binary unit: `0`, `2 GiB`, `4 GiB`.
std::vector<Tick> byte_ticks(Bytes largest);

/// Round ticks that enclose [low, high], 3 to 7 of them.
std::vector<Tick> number_ticks(double low, double high);

}  // namespace ftplan::reports

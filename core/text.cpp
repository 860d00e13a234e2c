#include "core/text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/units.h"

namespace ftplan {

std::string format_fixed(double value, int decimals) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.*f", decimals, value);
  return buffer.data();
}

std::string format_bytes(Bytes bytes) {
  const auto value = static_cast<double>(bytes.value);
  const double size = std::abs(value);
  if (size >= static_cast<double>(kGiB.value)) {
    return format_fixed(value / static_cast<double>(kGiB.value), 2) + " GiB";
  }
  if (size >= static_cast<double>(kMiB.value)) {
    return format_fixed(value / static_cast<double>(kMiB.value), 1) + " MiB";
  }
  if (size >= static_cast<double>(kKiB.value)) {
    return format_fixed(value / static_cast<double>(kKiB.value), 1) + " KiB";
  }
  return std::to_string(bytes.value) + " B";
}

std::string format_gib(Bytes bytes) {
  return format_fixed(static_cast<double>(bytes.value) / static_cast<double>(kGiB.value), 2);
}

std::string format_count(std::int64_t count) {
  const auto value = static_cast<double>(count);
  if (count >= 1'000'000'000) return format_fixed(value / 1e9, 2) + " B";
  if (count >= 1'000'000) return format_fixed(value / 1e6, count >= 100'000'000 ? 0 : 2) + " M";
  if (count >= 10'000) return format_fixed(value / 1e3, 1) + " k";
  return std::to_string(count);
}

std::string format_duration(Seconds seconds) {
  const auto whole = static_cast<std::int64_t>(seconds.value);
  if (whole >= 3600) {
    const std::int64_t minutes = whole / 60 % 60;
    return std::to_string(whole / 3600) + "h " + (minutes < 10 ? "0" : "") +
           std::to_string(minutes) + "m";
  }
  if (whole >= 60) {
    return std::to_string(whole / 60) + "m " + (whole % 60 < 10 ? "0" : "") +
           std::to_string(whole % 60) + "s";
  }
  return format_fixed(seconds.value, 1) + " s";
}

std::string format_number(double value) {
  std::array<char, 64> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return error == std::errc() ? std::string(buffer.data(), end) : "?";
}

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  std::string all;
  for (const std::string& part : parts) {
    if (!all.empty()) all += separator;
    all += part;
  }
  return all;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = text.find(separator, begin);
    parts.emplace_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

namespace {

// Levenshtein distance with one row of state.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = std::numeric_limits<std::size_t>::max();
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace ftplan

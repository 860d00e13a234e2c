#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/category.h"
#include "core/text.h"
#include "core/timeline.h"
#include "core/units.h"
#include "reports/charts.h"
#include "reports/comparison.h"
#include "reports/markup.h"
#include "reports/series.h"
#include "reports/svg.h"
#include "reports/words.h"

namespace ftplan::reports {
namespace {

// Note [Drawing]: user units of the SVG; the page scales it to the column. A phone shows it at
// about 0.4 of its size, so labels that matter are repeated as text below the chart.
constexpr double kWidth = 960, kHeight = 392;
constexpr double kLeft = 72, kRight = 16, kTop = 46, kBottom = 44;
constexpr double kPlotWidth = kWidth - kLeft - kRight, kPlotHeight = kHeight - kTop - kBottom;
constexpr std::size_t kBuckets = 240;

// From the bottom: what stays over steps first, what comes and goes above it.
constexpr std::array<Bytes PlaceBytes::*, kCategories + 1> kStack = {
    &PlaceBytes::runtime,     &PlaceBytes::weights,  &PlaceBytes::adapters,
    &PlaceBytes::optimizer,   &PlaceBytes::inputs,   &PlaceBytes::gradients,
    &PlaceBytes::buckets,     &PlaceBytes::gathered, &PlaceBytes::checkpoints,
    &PlaceBytes::activations, &PlaceBytes::logits,   &PlaceBytes::scratch};

const char* name_of(Bytes PlaceBytes::* bytes) {
  for (const ByteLine& line : kByteLines) {
    if (line.bytes == bytes) return line.name;
  }
  return "?";
}

struct Scale {
  std::size_t instants;
  double top;  // bytes
  static double x(double share) { return kLeft + kPlotWidth * share; }
  [[nodiscard]] double x(std::size_t instant) const {
    return x(static_cast<double>(instant) / static_cast<double>(instants));
  }
  [[nodiscard]] double y(Bytes bytes) const {
    return kTop + kPlotHeight * (1 - static_cast<double>(bytes.value) / top);
  }
};

// An instant lasts until the next one: steps, not slopes. A kept instant stands for those that were
// left out after it.
std::string area(const std::vector<double>& begins, const std::vector<Bytes>& low,
                 const std::vector<Bytes>& high, const Scale& scale) {
  std::string path;
  for (std::size_t i = 0; i < begins.size(); ++i) {
    const std::string x = number(Scale::x(begins[i])), y = number(scale.y(high[i]));
    path += (i == 0 ? "M" + x + " " + y : "H" + x + "V" + y);
  }
  path += "H" + number(Scale::x(1.0));
  for (std::size_t i = begins.size(); i-- > 0;) {
    path += "V" + number(scale.y(low[i])) + "H" + number(Scale::x(begins[i]));
  }
  return path + "Z";
}

std::string layers(const Timeline& timeline, const std::vector<std::size_t>& kept,
                   const Scale& scale) {
  const auto begins = begin_of(kept, timeline.instants.size(), kBuckets);
  // Outlines would hide areas as narrow as they are.
  const std::string classes = kept.size() > 120 ? "area many c-" : "area c-";
  std::string markup;
  std::vector<Bytes> low(kept.size());
  for (const auto member : kStack) {
    std::vector<Bytes> high = low;
    for (std::size_t i = 0; i < kept.size(); ++i)
      high[i] += timeline.instants[kept[i]].device.*member;
    if (high == low) continue;
    const std::string name = name_of(member);
    markup += tag("path", {{"class", classes + name}, {"d", area(begins, low, high, scale)}},
                  tag("title", {}, name));
    low = high;
  }
  return markup;
}

std::string grid(const Scale& scale, const std::vector<Tick>& ticks) {
  std::string markup;
  for (const Tick& tick : ticks) {
    const double y = scale.y({static_cast<std::int64_t>(tick.value)});
    markup += line_at(kLeft, y, kWidth - kRight, y, "grid");
    markup += text_at(kLeft - 10, y + 4, "tick end", tick.label);
  }
  return markup;
}

// Consecutive instants of one phase, named where there is room for the name.
std::string phases(const Timeline& timeline, const Scale& scale) {
  std::string markup;
  const auto& instants = timeline.instants;
  for (std::size_t begin = 0; begin < instants.size();) {
    std::size_t end = begin + 1;
    while (end < instants.size() && instants[end].phase == instants[begin].phase) ++end;
    const double left = scale.x(begin), right = scale.x(end), y = kTop + kPlotHeight;
    markup += line_at(left, kTop, left, y + 8, "phase");
    if (right - left > 9.0 * static_cast<double>(instants[begin].phase.size())) {
      markup += text_at((left + right) / 2, y + 24, "tick middle", instants[begin].phase);
    }
    begin = end;
  }
  return markup;
}

std::string level(const Scale& scale, Bytes bytes, const char* classes, const std::string& words) {
  const double y = scale.y(bytes);
  return line_at(kLeft, y, kWidth - kRight, y, classes) +
         text_at(kWidth - kRight - 6, y - 6, "tick end halo", words);
}

std::string peak_mark(const Timeline& timeline, const Scale& scale) {
  const std::size_t peak = peak_of(timeline);
  const Instant& instant = timeline.instants[peak];
  const double x = (scale.x(peak) + scale.x(peak + 1)) / 2, y = scale.y(held(instant));
  const bool right_half = x > kLeft + kPlotWidth / 2;
  const std::string words =
      tag("tspan", {}, "peak " + format_bytes(held(instant))) +
      tag("tspan", {{"class", "detail"}}, " \u00b7 " + escape_html(shorten(describe(instant), 50)));
  return tag("g", {{"class", "peak"}},
             line_at(x, kTop - 24, x, kTop + kPlotHeight, "peak-line") +
                 tag("circle", {{"cx", number(x)}, {"cy", number(y)}, {"r", "4.5"}}, "") +
                 tag("text",
                     {{"x", number(right_half ? x - 10 : x + 10)},
                      {"y", number(kTop - 26)},
                      {"class", right_half ? "peak-text end" : "peak-text"}},
                     words));
}

}  // namespace

std::string memory_chart(const Timeline& timeline, std::optional<Bytes> reserved,
                         std::optional<Bytes> limit) {
  if (timeline.instants.empty()) return "";
  const std::size_t peak = peak_of(timeline);
  const Bytes highest = std::max(held(timeline.instants[peak]), reserved.value_or(Bytes{}));
  // A limit far above would flatten what the chart is about; it is told in words.
  const bool show_limit = limit && limit->value <= highest.value / 2 * 3;
  const Bytes top = show_limit ? std::max(highest, *limit) : highest;
  const auto ticks = byte_ticks(top);
  const Scale scale{.instants = timeline.instants.size(), .top = ticks.back().value};
  const auto kept = thin(timeline.instants.size(), kBuckets, peak, [&](std::size_t i) {
    return static_cast<double>(held(timeline.instants[i]).value);
  });
  std::string markup = layers(timeline, kept, scale) + grid(scale, ticks) + phases(timeline, scale);
  if (reserved) markup += level(scale, *reserved, "reserved", "arena " + format_bytes(*reserved));
  if (show_limit) markup += level(scale, *limit, "limit", "limit " + format_bytes(*limit));
  markup += peak_mark(timeline, scale);
  const std::string words =
      "Memory of rank " + std::to_string(timeline.rank) + " over one step, " +
      counted(static_cast<std::int64_t>(timeline.instants.size()), "instruction") + "; peak " +
      format_bytes(held(timeline.instants[peak])) + " in " + describe(timeline.instants[peak]);
  return svg(kWidth, kHeight, words, markup);
}

std::string memory_legend(const Timeline& timeline) {
  if (timeline.instants.empty()) return "";
  const PlaceBytes& at_peak = timeline.instants[peak_of(timeline)].device;
  const Bytes sum = held(timeline.instants[peak_of(timeline)]);
  std::string rows;
  for (auto member = kStack.rbegin(); member != kStack.rend(); ++member) {
    Bytes largest;
    for (const Instant& instant : timeline.instants)
      largest = std::max(largest, instant.device.**member);
    if (largest == Bytes{}) continue;
    const std::string name = name_of(*member);
    rows += tag("tr", {},
                tag("th", {{"scope", "row"}},
                    tag("i", {{"class", "swatch c-" + name}}, "") + escape_html(name)) +
                    share_bar(at_peak.**member, sum, "c-" + name) +
                    tag("td", {}, format_bytes(at_peak.**member)) +
                    tag("td", {{"class", "soft"}}, format_bytes(largest)));
  }
  return tag(
      "table", {{"class", "legend"}},
      tag("thead", {},
          tag("tr", {},
              tag("th", {{"scope", "col"}}, "category") + tag("td", {{"class", "share"}}, "") +
                  tag("th", {{"scope", "col"}}, "at the peak") +
                  tag("th", {{"scope", "col"}}, "its largest"))) +
          tag("tbody", {}, rows) +
          tag("tfoot", {},
              tag("tr", {},
                  tag("th", {{"scope", "row"}}, "held at the peak") +
                      tag("td", {{"class", "share"}}, "") + tag("td", {}, format_bytes(sum)) +
                      tag("td", {}, ""))));
}

}  // namespace ftplan::reports

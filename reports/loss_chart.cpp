#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/run_result.h"
#include "core/text.h"
#include "reports/charts.h"
#include "reports/markup.h"
#include "reports/series.h"
#include "reports/svg.h"
#include "reports/words.h"

namespace ftplan::reports {
namespace {

constexpr double kWidth = 960, kHeight = 300;
constexpr double kLeft = 72, kRight = 120, kTop = 16, kBottom = 44;
constexpr double kPlotWidth = kWidth - kLeft - kRight, kPlotHeight = kHeight - kTop - kBottom;
constexpr std::size_t kBuckets = 300;

struct Point {
  double step = 0;
  double loss = 0;
};

std::vector<Point> points_of(const std::vector<StepMetrics>& metrics,
                             std::optional<double> StepMetrics::* value) {
  std::vector<Point> points;
  for (const StepMetrics& line : metrics) {
    const auto& loss = line.*value;
    if (loss && std::isfinite(*loss))
      points.push_back({.step = static_cast<double>(line.step), .loss = *loss});
  }
  return points;
}

struct Scale {
  double first, last, low, high;
  [[nodiscard]] double x(double step) const {
    return last > first ? kLeft + kPlotWidth * (step - first) / (last - first)
                        : kLeft + kPlotWidth / 2;
  }
  [[nodiscard]] double y(double loss) const {
    return kTop + kPlotHeight * (high - loss) / (high - low);
  }
};

std::string curve(const std::vector<Point>& points, const Scale& scale, const char* name) {
  if (points.empty()) return "";
  const auto kept = thin(points.size(), kBuckets, points.size() - 1,
                         [&](std::size_t i) { return points[i].loss; });
  std::string path, marks;
  for (const std::size_t i : kept) {
    const std::string x = number(scale.x(points[i].step)), y = number(scale.y(points[i].loss));
    path += (path.empty() ? "M" : "L") + x + " " + y;
    // Few points are seen one by one; many are a line.
    if (kept.size() <= 40) marks += tag("circle", {{"cx", x}, {"cy", y}, {"r", "3.5"}}, "");
  }
  return tag("g", {{"class", std::string("curve ") + name}},
             tag("path", {{"d", path}}, "") + marks);
}

// Labels at the ends of the curves, kept apart.
std::string end_labels(const std::vector<Point>& training, const std::vector<Point>& validation,
                       const Scale& scale) {
  const double x = kWidth - kRight + 10;
  double above = training.empty() ? 0 : scale.y(training.back().loss);
  double below = validation.empty() ? 0 : scale.y(validation.back().loss);
  if (!training.empty() && !validation.empty() && std::abs(above - below) < 34) {
    const double middle = (above + below) / 2;
    const bool training_on_top = above <= below;
    above = middle + (training_on_top ? -17 : 17);
    below = middle + (training_on_top ? 17 : -17);
  }
  std::string markup;
  if (!training.empty()) {
    markup += text_at(x, above, "name training", "training") +
              text_at(x, above + 14, "tick detail", format_fixed(training.back().loss, 4));
  }
  if (!validation.empty()) {
    markup += text_at(x, below, "name validation", "validation") +
              text_at(x, below + 14, "tick detail", format_fixed(validation.back().loss, 4));
  }
  return markup;
}

// A ring around the lowest evaluation, and its value where the curve leaves room.
std::string best_mark(const std::optional<BestEvaluation>& best, const Scale& scale) {
  if (!best) return "";
  const double x = scale.x(static_cast<double>(best->step)), y = scale.y(best->loss);
  const bool low = y > kTop + kPlotHeight - 30;
  return tag("g", {{"class", "best"}},
             tag("circle", {{"cx", number(x)}, {"cy", number(y)}, {"r", "7"}}, "") +
                 text_at(x, low ? y - 14 : y + 22, "tick middle detail",
                         "lowest " + format_fixed(best->loss, 4)));
}

std::string axes(const Scale& scale, const std::vector<Tick>& losses) {
  std::string markup;
  for (const Tick& tick : losses) {
    const double y = scale.y(tick.value);
    markup += line_at(kLeft, y, kWidth - kRight, y, "grid");
    markup += text_at(kLeft - 10, y + 4, "tick end", tick.label);
  }
  const double y = kTop + kPlotHeight + 24;
  markup += text_at(scale.x(scale.first), y, scale.last > scale.first ? "tick" : "tick middle",
                    "step " + std::to_string(static_cast<std::int64_t>(scale.first)));
  if (scale.last > scale.first) {
    markup += text_at(scale.x(scale.last), y, "tick end",
                      "step " + std::to_string(static_cast<std::int64_t>(scale.last)));
  }
  return markup;
}

}  // namespace

std::string loss_chart(const std::vector<StepMetrics>& metrics) {
  const auto training = points_of(metrics, &StepMetrics::loss);
  const auto validation = points_of(metrics, &StepMetrics::validation_loss);
  std::vector<Point> all = training;
  all.insert(all.end(), validation.begin(), validation.end());
  if (all.empty()) return "";
  const auto by_step = [](const Point& a, const Point& b) { return a.step < b.step; };
  const auto by_loss = [](const Point& a, const Point& b) { return a.loss < b.loss; };
  const auto [first, last] = std::minmax_element(all.begin(), all.end(), by_step);
  const auto [lowest, highest] = std::minmax_element(all.begin(), all.end(), by_loss);
  const auto ticks = number_ticks(lowest->loss, highest->loss);
  const Scale scale{.first = first->step,
                    .last = last->step,
                    .low = ticks.front().value,
                    .high = ticks.back().value};
  return svg(kWidth, kHeight, "Training and validation loss over the steps",
             axes(scale, ticks) + curve(training, scale, "training") +
                 curve(validation, scale, "validation") + best_mark(best_of(metrics), scale) +
                 end_labels(training, validation, scale));
}

}  // namespace ftplan::reports

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "core/plan.h"
#include "core/run_result.h"
#include "core/text.h"
#include "core/timeline.h"
#include "core/units.h"
#include "reports/comparison.h"
#include "reports/markup.h"
#include "reports/report.h"
#include "reports/series.h"
#include "reports/words.h"

namespace ftplan::reports {
namespace {

constexpr std::size_t kColumns = 100;
constexpr std::size_t kLabel = 12;
constexpr std::size_t kNumber = 20;

// A label and its text, continued under the text.
std::string labelled(const std::string& label, const std::string& text) {
  std::string lines;
  for (const std::string& line : wrap(printable(text), kColumns - kLabel)) {
    lines += pad_right(lines.empty() ? label : "", kLabel) + line + "\n";
  }
  return lines;
}

// `values` as one row of blocks, the largest of each column; higher is more.
std::string blocks(const std::vector<double>& values, double low, double high) {
  constexpr std::array<const char*, 8> kBlocks = {"\u2581", "\u2582", "\u2583", "\u2584",
                                                  "\u2585", "\u2586", "\u2587", "\u2588"};
  const std::size_t width = std::min(values.size(), kColumns - kLabel);
  std::string row;
  for (std::size_t column = 0; column < width; ++column) {
    const std::size_t begin = column * values.size() / width,
                      end = (column + 1) * values.size() / width;
    double largest = values[begin];
    for (std::size_t i = begin; i < end; ++i) largest = std::max(largest, values[i]);
    const double share = high > low ? (largest - low) / (high - low) : 0;
    row += kBlocks[static_cast<std::size_t>(std::lround(share * 7))];
  }
  return row;
}

std::string memory_row(const Timeline& timeline) {
  if (timeline.instants.empty()) return "";
  std::vector<double> values;
  for (const Instant& instant : timeline.instants)
    values.push_back(static_cast<double>(held(instant).value));
  const Instant& peak = timeline.instants[peak_of(timeline)];
  const std::string rank = "memory " + std::to_string(timeline.rank);
  return pad_right(rank, kLabel) + blocks(values, 0, static_cast<double>(held(peak).value)) + "\n" +
         labelled("", "peak " + format_bytes(held(peak)) + " in " + describe(peak));
}

std::string loss_row(const std::vector<StepMetrics>& metrics) {
  std::vector<double> values;
  for (const StepMetrics& line : metrics) {
    if (line.loss && std::isfinite(*line.loss)) values.push_back(*line.loss);
  }
  std::string text;
  if (!values.empty()) {
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    text = pad_right("loss", kLabel) + blocks(values, *low, *high) + "\n";
  }
  return text + labelled(text.empty() ? "loss" : "", describe_loss(metrics));
}

std::string compared_row(const ComparedLine& line, bool measured) {
  std::string row =
      "  " + pad_right(line.name, kLabel) + pad_left(with_commas(line.predicted.value), kNumber);
  if (!measured) return row + pad_left(format_bytes(line.predicted), kNumber) + "\n";
  if (!line.measured) return row + "\n";
  row += pad_left(with_commas(line.measured->value), kNumber);
  return row +
         (line.different() ? "  different " + with_sign(line.measured->value - line.predicted.value)
                           : "  equal") +
         "\n";
}

std::string compared_table(const ComparedPlace& place) {
  const bool measured =
      std::any_of(place.lines.begin(), place.lines.end(),
                  [](const ComparedLine& line) { return line.measured.has_value(); });
  std::string table =
      pad_right("rank " + std::to_string(place.rank) + ", " + place.place, kLabel + 2) +
      pad_left(measured ? "predicted, bytes" : "bytes", kNumber) +
      (measured ? pad_left("measured, bytes", kNumber) : "") + "\n";
  for (const ComparedLine& line : place.lines) table += compared_row(line, measured);
  return table;
}

}  // namespace

std::string render_terminal(const ReportInput& input) {
  std::string text = printable(title(input.plan)) + "\n" +
                     join(wrap(printable(summary(input.plan)), kColumns), "\n") + "\n\n";
  for (const Fact& fact : describe(input.plan)) text += labelled(fact.label, fact.text);
  for (const std::string& reason : input.plan.why) text += labelled("Why", reason);
  for (const RunnerUp& runner : input.plan.runners_up) {
    text += labelled("Not", describe(runner.strategy) + " (" + format_bytes(runner.peak) +
                                "): " + runner.lost_by);
  }
  for (const RankPrediction& rank : input.plan.predicted)
    text += labelled("Basis", describe_basis(rank));
  text += "\n";
  for (const Timeline& timeline : input.timelines) text += memory_row(timeline);
  text += loss_row(input.metrics);
  if (const std::string result = describe_result(input); !result.empty())
    text += labelled("Result", result);
  text += "\n";
  for (const ComparedPlace& place : compare(input)) text += compared_table(place);
  const std::string verdict = describe_verdict(input);
  return verdict.empty() ? text : text + verdict + "\n";
}

}  // namespace ftplan::reports

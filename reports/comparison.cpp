#include "reports/comparison.h"

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "core/category.h"
#include "core/plan.h"
#include "core/run_result.h"
#include "core/units.h"
#include "reports/report.h"

namespace ftplan::reports {
namespace {

struct RankSides {
  RankBytes predicted;
  std::optional<RankBytes> measured;
};

RankBytes bytes_of(const RankPrediction& prediction) {
  return {.device = prediction.device, .host = prediction.host, .disk = prediction.disk};
}

// A run that stopped early is held to what its steps write to the disk.
RankBytes promised(const ReportInput& input, const RankPrediction& prediction,
                   const RankBytes& recorded) {
  RankBytes bytes = bytes_of(prediction);
  if (input.result && input.result->stopped_early) bytes.disk = recorded.disk;
  return bytes;
}

std::map<std::int64_t, RankSides> sides_of(const ReportInput& input) {
  std::map<std::int64_t, RankSides> ranks;
  if (input.result) {
    for (const RankMeasurement& rank : input.result->ranks) {
      ranks[rank.rank] = {.predicted = rank.predicted, .measured = rank.measured};
    }
  }
  for (const RankPrediction& prediction : input.plan.predicted) {
    RankBytes& predicted = ranks[prediction.rank].predicted;
    predicted = promised(input, prediction, predicted);
  }
  return ranks;
}

void add_place(std::vector<ComparedPlace>& places, std::int64_t rank, const char* name,
               const PlaceBytes& predicted, const PlaceBytes* measured) {
  ComparedPlace place{.rank = rank, .place = name, .lines = {}};
  bool empty = true;
  for (const ByteLine& line : kByteLines) {
    ComparedLine compared{.name = line.name, .predicted = predicted.*line.bytes, .measured = {}};
    if (measured != nullptr) compared.measured = measured->*line.bytes;
    const bool zero =
        compared.predicted == Bytes{} && compared.measured.value_or(Bytes{}) == Bytes{};
    empty = empty && zero;
    if (!zero || line.bytes == &PlaceBytes::peak) place.lines.push_back(compared);
  }
  if (!empty) places.push_back(place);
}

}  // namespace

std::vector<ComparedPlace> compare(const ReportInput& input) {
  std::vector<ComparedPlace> places;
  for (const auto& [rank, sides] : sides_of(input)) {
    const RankBytes* measured = sides.measured ? &*sides.measured : nullptr;
    add_place(places, rank, "device", sides.predicted.device,
              measured ? &measured->device : nullptr);
    add_place(places, rank, "host", sides.predicted.host, measured ? &measured->host : nullptr);
    add_place(places, rank, "disk", sides.predicted.disk, measured ? &measured->disk : nullptr);
  }
  return places;
}

Verdict judge(const ReportInput& input) {
  Verdict verdict;
  for (const ComparedPlace& place : compare(input)) {
    for (const ComparedLine& line : place.lines) {
      verdict.compared += line.measured ? 1 : 0;
      verdict.different += line.different() ? 1 : 0;
    }
  }
  if (!input.result) return verdict;
  for (const RankMeasurement& rank : input.result->ranks) {
    for (const RankPrediction& prediction : input.plan.predicted) {
      if (prediction.rank != rank.rank) continue;
      if (promised(input, prediction, rank.predicted) != rank.predicted) {
        verdict.other_plan = true;
      }
    }
  }
  return verdict;
}

}  // namespace ftplan::reports

#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/category.h"
#include "reports/report.h"

namespace ftplan::reports {

/// A line of `PlaceBytes`: the categories in their order, then runtime, unused and peak.
struct ByteLine {
  const char* name;
  Bytes PlaceBytes::* bytes;
};
inline constexpr std::array<ByteLine, kCategories + 3> kByteLines = {{
    {"weights", &PlaceBytes::weights},
    {"adapters", &PlaceBytes::adapters},
    {"gradients", &PlaceBytes::gradients},
    {"optimizer", &PlaceBytes::optimizer},
    {"activations", &PlaceBytes::activations},
    {"checkpoints", &PlaceBytes::checkpoints},
    {"logits", &PlaceBytes::logits},
    {"gathered", &PlaceBytes::gathered},
    {"buckets", &PlaceBytes::buckets},
    {"scratch", &PlaceBytes::scratch},
    {"inputs", &PlaceBytes::inputs},
    {"runtime", &PlaceBytes::runtime},
    {"unused", &PlaceBytes::unused},
    {"peak", &PlaceBytes::peak},
}};

/// Predicted beside measured for one line; `measured` is empty when that rank was not run.
struct ComparedLine {
  const char* name = "";
  Bytes predicted;
  std::optional<Bytes> measured;

  [[nodiscard]] bool different() const { return measured && *measured != predicted; }
};

/// One place of one rank. Lines that are zero on both sides are left out, `peak` is always there
/// and last.
struct ComparedPlace {
  std::int64_t rank = 0;
  const char* place = "";
  std::vector<ComparedLine> lines;
};

/// Every rank that was predicted or measured, in order of rank: device, host, disk. Places that
/// hold nothing on both sides are left out. A rank that equals a predicted one but was not
/// predicted itself shows the prediction that its run recorded.
std::vector<ComparedPlace> compare(const ReportInput& input);

/// What `compare` says as a whole.
struct Verdict {
  std::int64_t compared = 0;   ///< lines with both numbers
  std::int64_t different = 0;  ///< of them
  bool other_plan = false;     ///< the run recorded another prediction than this plan holds
};
Verdict judge(const ReportInput& input);

}  // namespace ftplan::reports

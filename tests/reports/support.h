#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/layout_graph.h"
#include "reports/report.h"

/// Toy reports: each byte in them can be added up by hand.
namespace ftplan::reports {

/// A LoRA plan for one CPU rank: device peak 100 MiB = 60 weights + 4 adapters + 8 optimizer + 20
/// activations + 5 scratch + 3 unused, host peak 2 MiB of inputs; why, and one runner-up.
Plan toy_plan();

/// `instants` of forward, backward and optimizer that grow and shrink; the peak is at two fifths.
Timeline toy_timeline(std::int64_t instants);

/// `toy_plan` run: every measured byte is the predicted one.
RunResult equal_result();

/// 60 steps whose loss falls from 4, and a validation every 20.
std::vector<StepMetrics> falling_loss();

/// The parts of a model of 4 layers.
LayoutGraph toy_layout();

/// Whether `part` stands in `text`.
bool has(std::string_view text, std::string_view part);

/// All of the above.
ReportInput toy_report();

}  // namespace ftplan::reports

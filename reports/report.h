#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/layout_graph.h"
#include "core/plan.h"
#include "core/run_result.h"
#include "core/timeline.h"
#include "core/what_if.h"

/// What a plan promised and what its run did, for people. Pure: a report is a function of what it
/// is given, holds no date and no host name, and recomputes nothing that the plan or the run
/// already says.
namespace ftplan::reports {

/// A plan, and whatever else is there: a report of a plan alone has no measured column and no loss.
struct ReportInput {
  Plan plan;
  std::vector<Timeline> timelines;      ///< one per distinct rank, as `simulate` made them
  std::optional<RunResult> result;      ///< `measured.json`
  std::vector<StepMetrics> metrics;     ///< `metrics.jsonl`, in its order
  std::vector<WhatIf> what_ifs{};       ///< what other choices would change
  std::optional<LayoutGraph> layout{};  ///< of the first rank; drawn where Graphviz is there
};

/// One self-contained page: no script, no network, readable on a phone, in light and dark.
/// Every text of the input is escaped.
std::string render_html(const ReportInput& input);

/// The same in at most 100 columns of text; control characters of the input are replaced.
std::string render_terminal(const ReportInput& input);

}  // namespace ftplan::reports

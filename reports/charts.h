#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/run_result.h"
#include "core/timeline.h"
#include "core/units.h"

/// Inline SVG for the page. Colours are classes of `page.css`, so that light and dark share one
/// drawing.
namespace ftplan::reports {

/// Memory over one step, stacked by category, with the peak marked; empty text for an empty
/// timeline. `reserved` draws what the arena holds in all, `limit` what the device has when that is
/// near enough to be on the chart.
std::string memory_chart(const Timeline& timeline, std::optional<Bytes> reserved,
                         std::optional<Bytes> limit);

/// The categories of `memory_chart` in stacking order, top first, with their bytes at the peak and
/// their largest.
std::string memory_legend(const Timeline& timeline);

/// Training and validation loss over the steps; empty text when neither was logged.
std::string loss_chart(const std::vector<StepMetrics>& metrics);

}  // namespace ftplan::reports

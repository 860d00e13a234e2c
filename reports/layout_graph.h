#pragma once

#include <string>

#include "core/layout_graph.h"
#include "core/result.h"

/// The layout as a drawing, laid out by Graphviz.
namespace ftplan::reports {

enum class GraphFormat { kDot, kSvg };

/// DOT text, or an SVG drawing that stands alone. In a page the classes `c-CATEGORY` of `page.css`
/// colour it.
/// @error bad input: this build has no Graphviz
Result<std::string> render_graph(const LayoutGraph& graph, GraphFormat format);

}  // namespace ftplan::reports

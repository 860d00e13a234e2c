#pragma once

#include <cstdint>
#include <string>

#include "core/layout_graph.h"

/// What a drawn layout says, as Graphviz takes it.
namespace ftplan::reports {

/// The colour of a category on white, `#3d5f9e`; `page.css` has the same under its name.
const char* colour_of(Category category);

/// A part with a line for each of its holdings: an HTML-like label without its angle brackets.
std::string part_label(const LayoutPart& part);

/// `25.1 MiB`, or `all_reduce, 1.2 MiB`.
std::string flow_label(const LayoutFlow& flow);

/// What stands above the drawing.
std::string graph_title(const LayoutGraph& graph);

struct FlowStyle {
  const char* name;  ///< class of its drawing: `forward`
  const char* colour;
  const char* line;  ///< Graphviz's style
  bool orders;       ///< parts follow each other along it
};
FlowStyle style_of(Flow flow);

/// `svg` as Graphviz writes it, ready for a page: without prologue and namespaces, with classes
/// beside colours.
std::string for_page(std::string svg);

}  // namespace ftplan::reports

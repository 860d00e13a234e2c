#include <string>

#include "core/layout_graph.h"
#include "core/result.h"
#include "reports/layout_graph.h"

namespace ftplan::reports {

Result<std::string> render_graph(const LayoutGraph& /*graph*/, GraphFormat /*format*/) {
  return bad_input("--graph",
                   "this ftplan was built without Graphviz: install libgraphviz-dev, configure and "
                   "build again");
}

}  // namespace ftplan::reports

#include <graphviz/cgraph.h>
#include <graphviz/gvc.h>
#include <graphviz/gvcext.h>

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/layout_graph.h"
#include "core/result.h"
#include "reports/graph_labels.h"
#include "reports/layout_graph.h"

namespace ftplan::reports {
namespace {

constexpr const char* kFont = "Helvetica,Arial,sans-serif";

// Graphviz takes texts that it does not change as `char*`.
char* text_of(const std::string& text) { return const_cast<char*>(text.c_str()); }

void set(void* object, const char* name, const std::string& value) {
  agsafeset(object, text_of(name), text_of(value), text_of(""));
}

int append(void* text, const char* more) {
  *static_cast<std::string*>(text) += more;
  return 0;
}
int flush(void* /*text*/) { return 0; }
int read_nothing(void* /*text*/, char* /*buffer*/, int /*size*/) { return 0; }

// A graph that writes into a string.
class Graph {
 public:
  Graph() : io_{read_nothing, append, flush}, discipline_{nullptr, &AgIdDisc, &io_} {
    agseterr(AGMAX);  // complaints about fonts are for no one here
    graph_ = agopen(text_of("layout"), Agdirected, &discipline_);
  }
  ~Graph() { agclose(graph_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  [[nodiscard]] Agraph_t* get() const { return graph_; }

  [[nodiscard]] std::string dot() const {
    std::string text;
    agwrite(graph_, &text);
    return text;
  }

  [[nodiscard]] Result<std::string> svg() const {
    const std::unique_ptr<GVC_t, int (*)(GVC_t*)> context(gvContext(), gvFreeContext);
    char* data = nullptr;
    unsigned int size = 0;
    const bool drawn = gvLayout(context.get(), graph_, "dot") == 0 &&
                       gvRenderData(context.get(), graph_, "svg", &data, &size) == 0;
    Result<std::string> svg = run_failed("--graph", "Graphviz cannot draw: is its package whole?");
    if (drawn && data != nullptr) svg = std::string(data, size);
    if (data != nullptr) gvFreeRenderData(data);
    gvFreeLayout(context.get(), graph_);
    return svg;
  }

 private:
  Agiodisc_t io_;
  Agdisc_t discipline_;
  Agraph_t* graph_ = nullptr;
};

void add_part(const Graph& graph, Agnode_t* node, const LayoutPart& part) {
  set(node, "shape", "box");
  set(node, "style", "rounded,filled");
  set(node, "fillcolor", "#ffffff");
  set(node, "color", "#a9a69c");
  set(node, "class", "part");
  if (part.repeats > 1) set(node, "peripheries", "2");
  // The graph keeps the string until it is closed.
  char* label = agstrdup_html(graph.get(), text_of(part_label(part)));
  agsafeset(node, text_of("label"), label, text_of(""));
}

void add_flow(const Graph& graph, const LayoutFlow& flow, Agnode_t* from, Agnode_t* to) {
  Agedge_t* edge = agedge(graph.get(), from, to, nullptr, 1);
  const FlowStyle style = style_of(flow.flow);
  set(edge, "class", style.name);
  set(edge, "color", style.colour);
  set(edge, "style", style.line);
  set(edge, "label", " " + flow_label(flow) + " ");
  if (!style.orders) set(edge, "constraint", "false");
}

}  // namespace

Result<std::string> render_graph(const LayoutGraph& graph, GraphFormat format) {
  const Graph drawing;
  set(drawing.get(), "rankdir", "TB");
  set(drawing.get(), "bgcolor", "transparent");
  set(drawing.get(), "nodesep", "0.9");
  set(drawing.get(), "label", graph_title(graph));
  set(drawing.get(), "labelloc", "t");
  set(drawing.get(), "fontname", kFont);
  for (const auto& [kind, size] : {std::pair{AGNODE, "11"}, std::pair{AGEDGE, "10"}}) {
    agattr(drawing.get(), kind, text_of("fontname"), text_of(kFont));
    agattr(drawing.get(), kind, text_of("fontsize"), text_of(size));
  }
  // A context declares it for all graphs that come after it.
  agattr(drawing.get(), AGNODE, text_of("label"), text_of("\\N"));
  std::vector<Agnode_t*> nodes;
  for (const LayoutPart& part : graph.parts) {
    nodes.push_back(agnode(drawing.get(), text_of(part.name), 1));
    add_part(drawing, nodes.back(), part);
  }
  for (const LayoutFlow& flow : graph.flows) {
    add_flow(drawing, flow, nodes[static_cast<std::size_t>(flow.from)],
             nodes[static_cast<std::size_t>(flow.to)]);
  }
  if (format == GraphFormat::kSvg) return drawing.svg();
  return drawing.dot();
}

}  // namespace ftplan::reports

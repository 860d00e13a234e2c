#include "reports/layout_graph.h"

#include <gtest/gtest.h>

#include <string>

#include "core/category.h"
#include "core/layout_graph.h"
#include "core/units.h"
#include "reports/graph_labels.h"
#include "reports/report.h"
#include "support.h"

namespace ftplan::reports {
namespace {

TEST(PartLabel, HasALineForEachHolding) {
  const std::string label = part_label(toy_layout().parts[2]);
  EXPECT_TRUE(has(label, "<B>4 layers</B>"));
  EXPECT_TRUE(has(label, "<TD ALIGN=\"LEFT\">weights</TD><TD ALIGN=\"RIGHT\">40.0 MiB</TD>"));
  EXPECT_TRUE(has(label, "4 \u00d7 10.0 MiB"));
  EXPECT_LT(label.find("weights"), label.find("kept for the backward"));
  EXPECT_LT(label.find("kept for the backward"), label.find("activations at a time"));
}

TEST(PartLabel, EscapesNames) { EXPECT_TRUE(has(part_label({.name = "<b>&"}), "&lt;b&gt;&amp;")); }

TEST(PartLabel, SaysWhatIsOnTheHost) {
  const LayoutPart part = {
      .name = "optimizer",
      .holds = {{.category = Category::kOptimizer, .place = Place::kHost, .bytes = Bytes{64}}}};
  EXPECT_TRUE(has(part_label(part), "optimizer states, on the host"));
}

TEST(GraphTitle, CountsRanksAndMicroSteps) {
  LayoutGraph graph = toy_layout();
  EXPECT_EQ(graph_title(graph), "rank 0 on cpu: 98.0 MiB, of these 1.0 MiB scratch");
  graph.ranks = 4;
  graph.micro_steps = 2;
  EXPECT_EQ(graph_title(graph),
            "rank 0 of 4 on cpu: 98.0 MiB, of these 1.0 MiB scratch; 2 micro-steps a step");
}

TEST(ForPage, PutsAClassBesideEachColour) {
  EXPECT_EQ(for_page("<?xml?>\n<svg id=\"a\" xmlns=\"b\" xmlns:c=\"d\"><g fill=\"#3d5f9e\"/><g "
                     "fill=\"#3d5f9e\"/></svg>"),
            "<svg id=\"a\"><g class=\"c-weights\" fill=\"#3d5f9e\"/><g class=\"c-weights\" "
            "fill=\"#3d5f9e\"/></svg>");
}

// As page.css has them, in light.
TEST(ColourOf, IsThatOfThePage) {
  const std::string page = render_html(toy_report());
  for (std::size_t c = 0; c < kCategories; ++c) {
    const auto category = static_cast<Category>(c);
    EXPECT_TRUE(has(page, std::string("--") + to_text(category) + ": " + colour_of(category)));
  }
}

TEST(RenderGraph, DrawsEveryPartTwiceTheSame) {
  const auto dot = render_graph(toy_layout(), GraphFormat::kDot);
  if (!dot) {
    EXPECT_TRUE(has(dot.error().text(), "install libgraphviz-dev"));
    EXPECT_FALSE(has(render_html(toy_report()), "id=\"layout\""));
    GTEST_SKIP() << dot.error().text();
  }
  const auto drawing = render_graph(toy_layout(), GraphFormat::kSvg);
  ASSERT_TRUE(drawing.ok()) << drawing.error().text();
  EXPECT_TRUE(dot->starts_with("digraph layout {"));
  EXPECT_TRUE(drawing->starts_with("<?xml"));
  for (const LayoutPart& part : toy_layout().parts) EXPECT_TRUE(has(*dot, part.name)) << part.name;
  EXPECT_TRUE(has(for_page(*drawing), "class=\"c-weights\""));
  EXPECT_TRUE(has(*drawing, "class=\"edge backward\""));
  EXPECT_EQ(*dot, *render_graph(toy_layout(), GraphFormat::kDot));
  EXPECT_EQ(*drawing, *render_graph(toy_layout(), GraphFormat::kSvg));
  EXPECT_TRUE(has(render_html(toy_report()), for_page(*drawing)));
}

}  // namespace
}  // namespace ftplan::reports

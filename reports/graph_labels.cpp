#include "reports/graph_labels.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/category.h"
#include "core/enums.h"
#include "core/layout_graph.h"
#include "core/text.h"
#include "core/units.h"
#include "reports/markup.h"

namespace ftplan::reports {
namespace {

// In the order of `Category`; those of page.css in light.
constexpr std::array<const char*, kCategories> kColours = {
    "#3d5f9e", "#13857f", "#cf8f12", "#7b5aa8", "#d2603a", "#558b3a",
    "#bf3f74", "#3ba0d8", "#83654a", "#b6a88d", "#8a9099"};

std::string words_of(const Holding& holding, std::int64_t repeats) {
  std::string words = to_text(holding.category);
  if (holding.category == Category::kOptimizer) words = "optimizer states";
  if (holding.category == Category::kInputs && holding.place == Place::kDevice) words = "tables";
  if (holding.held == Held::kInAStep) {
    if (holding.category == Category::kActivations)
      words = holding.copies > repeats ? "residuals, kept" : "kept for the backward";
    if (holding.category == Category::kCheckpoints) words = "layer inputs, kept";
  }
  if (holding.held == Held::kAlways && holding.category == Category::kActivations)
    words = "loss and norm";
  if (holding.held == Held::kAtATime) words += " at a time";
  if (holding.place == Place::kHost) words += ", on the host";
  return words;
}

std::string each_words(const Holding& holding) {
  if (holding.copies <= 1) return "";
  return std::to_string(holding.copies) + " \u00d7 " +
         format_bytes(Bytes{holding.bytes.value / holding.copies});
}

std::string row(const Holding& holding, std::int64_t repeats) {
  const std::string colour = colour_of(holding.category);
  const std::string each = each_words(holding);
  return "<TR><TD BGCOLOR=\"" + colour + "\" WIDTH=\"8\" HEIGHT=\"8\" FIXEDSIZE=\"TRUE\"></TD>" +
         "<TD ALIGN=\"LEFT\">" + escape_html(words_of(holding, repeats)) +
         "</TD><TD ALIGN=\"RIGHT\">" + format_bytes(holding.bytes) + "</TD><TD ALIGN=\"LEFT\">" +
         (each.empty() ? "" : "<FONT POINT-SIZE=\"9\">" + each + "</FONT>") + "</TD></TR>";
}

}  // namespace

const char* colour_of(Category category) { return kColours[static_cast<std::size_t>(category)]; }

std::string part_label(const LayoutPart& part) {
  const std::string name =
      part.repeats > 1 ? std::to_string(part.repeats) + " " + part.name : part.name;
  std::string rows =
      "<TR><TD COLSPAN=\"4\" ALIGN=\"LEFT\"><B>" + escape_html(name) + "</B></TD></TR>";
  for (const Held held : {Held::kAlways, Held::kInAStep, Held::kAtATime}) {
    for (const Holding& holding : part.holds) {
      if (holding.held == held) rows += row(holding, part.repeats);
    }
  }
  return "<TABLE BORDER=\"0\" CELLBORDER=\"0\" CELLSPACING=\"1\" CELLPADDING=\"3\">" + rows +
         "</TABLE>";
}

std::string flow_label(const LayoutFlow& flow) {
  if (flow.flow == Flow::kShared) return "the same weights";
  return (flow.what.empty() ? "" : flow.what + ", ") + format_bytes(flow.bytes);
}

std::string graph_title(const LayoutGraph& graph) {
  std::string title = "rank " + std::to_string(graph.rank);
  if (graph.ranks > 1) title += " of " + std::to_string(graph.ranks);
  title += " on " + graph.device + ": " + format_bytes(graph.arena) + ", of these " +
           format_bytes(graph.scratch) + " scratch";
  if (graph.micro_steps > 1)
    title += "; " + std::to_string(graph.micro_steps) + " micro-steps a step";
  return title;
}

FlowStyle style_of(Flow flow) {
  switch (flow) {
    case Flow::kForward:
      return {"forward", "#1b1d22", "solid", true};
    case Flow::kBackward:
      return {"backward", "#d2603a", "dashed", false};
    case Flow::kUpdate:
      return {"update", "#cf8f12", "dashed", true};
    case Flow::kShared:
      return {"shared", "#3d5f9e", "dotted", false};
    case Flow::kTransfer:
      return {"transfer", "#3ba0d8", "bold", true};
  }
  return {"", "", "", false};
}

std::string for_page(std::string svg) {
  const std::size_t begin = svg.find("<svg");
  if (begin != std::string::npos) svg.erase(0, begin);
  for (std::size_t at = svg.find(" xmlns"); at != std::string::npos; at = svg.find(" xmlns", at))
    svg.erase(at, svg.find('"', svg.find('"', at) + 1) + 1 - at);
  for (std::size_t c = 0; c < kCategories; ++c) {
    const std::string fill = std::string("fill=\"") + kColours[c] + "\"";
    const std::string with_class =
        std::string("class=\"c-") + to_text(static_cast<Category>(c)) + "\" " + fill;
    for (std::size_t at = svg.find(fill); at != std::string::npos;
         at = svg.find(fill, at + with_class.size()))
      svg.replace(at, fill.size(), with_class);
  }
  return svg;
}

}  // namespace ftplan::reports

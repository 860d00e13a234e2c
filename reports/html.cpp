#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/machine.h"
#include "core/plan.h"
#include "core/run_result.h"
#include "core/strategy.h"
#include "core/text.h"
#include "core/timeline.h"
#include "core/units.h"
#include "core/what_if.h"
#include "reports/charts.h"
#include "reports/comparison.h"
#include "reports/graph_labels.h"
#include "reports/layout_graph.h"
#include "reports/markup.h"
#include "reports/page_files.h"
#include "reports/report.h"
#include "reports/words.h"

namespace ftplan::reports {
namespace {

std::string section(const char* id, const char* heading, const std::string& content) {
  return tag("section", {{"id", id}}, tag("h2", {}, heading) + content) + "\n";
}

std::string paragraph(const char* classes, const std::string& words) {
  return words.empty() ? "" : tag("p", {{"class", classes}}, escape_html(words));
}

std::string tile(const std::string& label, const std::string& value, const std::string& note) {
  return tag(
      "div", {{"class", "tile"}},
      tag("dt", {}, escape_html(label)) +
          tag("dd", {}, tag("b", {}, escape_html(value)) + tag("span", {}, escape_html(note))));
}

// Bytes measured where `need` is about: device and, where they share one memory, host.
std::optional<Bytes> measured_of(const ReportInput& input, const Need& need) {
  if (!input.result) return std::nullopt;
  const bool shared = input.plan.machine.backend == Backend::kCpu;
  for (const RankMeasurement& rank : input.result->ranks) {
    if (rank.rank == need.rank)
      return rank.measured.device.peak + (shared ? rank.measured.host.peak : Bytes{});
  }
  return std::nullopt;
}

std::string memory_tiles(const ReportInput& input) {
  const auto need = need_of(input.plan);
  if (!need) return "";
  const bool shared = input.plan.machine.backend == Backend::kCpu;
  const std::string exact =
      with_commas(need->used.value) + " bytes" + (shared ? ", device and host" : "");
  std::string tiles = tile("Predicted peak", format_bytes(need->used), exact);
  if (const auto measured = measured_of(input, *need)) {
    const std::int64_t difference = measured->value - need->used.value;
    tiles += tile("Measured peak", format_bytes(*measured),
                  difference == 0 ? "equal, to the byte" : with_sign(difference) + " bytes");
  }
  if (need->limit) {
    const bool fits = need->used <= *need->limit;
    const Bytes left = fits ? *need->limit - need->used : need->used - *need->limit;
    tiles += tile(fits ? "Room left" : "Missing", format_bytes(left),
                  "of " + format_bytes(*need->limit));
  }
  return tiles;
}

std::string recomputed(const Checkpointing& checkpointing) {
  if (checkpointing == Checkpointing{}) return "nothing is recomputed";
  return "checkpointing " + to_text(checkpointing);
}

std::string tiles(const ReportInput& input) {
  std::string content = memory_tiles(input);
  content +=
      tile("Steps", with_commas(input.plan.steps), recomputed(input.plan.strategy.checkpointing));
  if (input.result && input.result->tokens_per_second > 0) {
    content += tile("Speed", with_commas(std::llround(input.result->tokens_per_second)),
                    "tokens per second");
  }
  return tag("dl", {{"class", "tiles"}}, content);
}

std::string header(const ReportInput& input) {
  const std::string verdict = describe_verdict(input);
  const bool good = verdict.empty() || judge(input).different == 0;
  return tag("header", {},
             paragraph("eyebrow",
                       input.result ? "ftplan \u00b7 plan and run" : "ftplan \u00b7 plan") +
                 tag("h1", {}, escape_html(title(input.plan))) +
                 paragraph("lead", summary(input.plan)) +
                 (verdict.empty()
                      ? ""
                      : tag("p", {{"class", good ? "verdict good" : "verdict bad"}},
                            tag("b", {}, good ? "=" : "\u2260") + " " + escape_html(verdict))) +
                 tiles(input)) +
         "\n";
}

const RankPrediction* prediction_of(const Plan& plan, std::int64_t rank) {
  for (const RankPrediction& prediction : plan.predicted) {
    if (prediction.rank == rank) return &prediction;
  }
  return nullptr;
}

std::string memory(const ReportInput& input) {
  std::string content;
  for (const Timeline& timeline : input.timelines) {
    const RankPrediction* prediction = prediction_of(input.plan, timeline.rank);
    std::optional<Bytes> arena;
    if (prediction != nullptr) arena = prediction->arena;
    const std::string chart = memory_chart(timeline, arena, input.plan.machine.device_memory);
    if (chart.empty()) continue;
    if (input.timelines.size() > 1)
      content += tag("h3", {}, "Rank " + std::to_string(timeline.rank));
    content += tag("figure", {}, tag("div", {{"class", "chart"}}, chart) + memory_legend(timeline));
    if (prediction != nullptr && !prediction->peak_instruction.empty()) {
      content += paragraph("note", "At the peak runs " + prediction->peak_instruction + ".");
    }
  }
  return content.empty() ? "" : section("memory", "Memory over one step", content);
}

// Words that a phone has no room for.
std::string wide(const char* words) { return tag("span", {{"class", "wide"}}, words); }

std::string difference(const ComparedLine& line) {
  if (!line.measured) return tag("td", {{"class", "mark"}}, "");
  if (!line.different()) return tag("td", {{"class", "mark good"}}, "=" + wide(" equal"));
  const std::string words = with_sign(line.measured->value - line.predicted.value);
  return tag("td", {{"class", "mark bad"}}, "\u2260 " + escape_html(words));
}

std::string compared_row(const ComparedLine& line, Bytes largest, bool measured) {
  const bool total = std::string_view(line.name) == "peak";
  std::string cells =
      tag("th", {{"scope", "row"}},
          tag("i", {{"class", std::string("swatch c-") + line.name}}, "") + escape_html(line.name));
  cells += share_bar(line.predicted, largest, std::string("c-") + line.name) +
           tag("td", {}, with_commas(line.predicted.value));
  if (measured) {
    cells +=
        tag("td", {}, line.measured ? with_commas(line.measured->value) : "") + difference(line);
  } else {
    cells += tag("td", {{"class", "soft"}}, format_bytes(line.predicted));
  }
  return tag("tr", {{"class", total ? "total" : "part"}}, cells);
}

std::string compared_table(const ComparedPlace& place, bool measured) {
  Bytes largest;
  std::string rows;
  for (const ComparedLine& line : place.lines) largest = std::max(largest, line.predicted);
  for (const ComparedLine& line : place.lines) rows += compared_row(line, largest, measured);
  const Attributes column = {{"scope", "col"}};
  const std::string heads = tag("th", column, place.place) + tag("td", {{"class", "share"}}, "") +
                            tag("th", column, measured ? "predicted" + wide(", bytes") : "bytes") +
                            (measured ? tag("th", column, "measured" + wide(", bytes")) +
                                            tag("th", column, wide("difference"))
                                      : tag("th", column, ""));
  return tag("div", {{"class", "scroll"}},
             tag("table", {{"class", measured ? "compared four" : "compared"}},
                 tag("thead", {}, tag("tr", {}, heads)) + tag("tbody", {}, rows)));
}

std::string outside_words(const RankMeasurement& rank) {
  return "Outside the arena LibTorch allocated " + format_bytes(rank.outside_arena_bytes) +
         " after the first step; the process holds " + format_bytes(rank.process_bytes) +
         " beyond the arena.";
}

// Open where there is something to see: the first rank, and every rank with a difference.
std::string rank_block(const ReportInput& input, std::int64_t rank,
                       const std::vector<ComparedPlace>& places, bool first) {
  bool measured = false, differs = false;
  for (const ComparedPlace& place : places) {
    for (const ComparedLine& line : place.lines) {
      measured = measured || line.measured.has_value();
      differs = differs || line.different();
    }
  }
  std::string content;
  for (const ComparedPlace& place : places) content += compared_table(place, measured);
  if (input.result) {
    for (const RankMeasurement& measurement : input.result->ranks) {
      if (measurement.rank == rank) content += paragraph("note", outside_words(measurement));
    }
  }
  const std::string words = "Rank " + std::to_string(rank) +
                            (!measured ? ""
                             : differs ? ": different"
                                       : ": equal");
  const std::string open = first || differs ? "<details open>" : "<details>";
  return open + tag("summary", {}, escape_html(words)) + content + "</details>";
}

std::string comparison(const ReportInput& input) {
  const auto places = compare(input);
  std::string content = paragraph("lead", describe_verdict(input));
  for (std::size_t begin = 0; begin < places.size();) {
    std::size_t end = begin;
    while (end < places.size() && places[end].rank == places[begin].rank) ++end;
    const std::vector<ComparedPlace> of_rank(places.begin() + static_cast<std::ptrdiff_t>(begin),
                                             places.begin() + static_cast<std::ptrdiff_t>(end));
    content += rank_block(input, places[begin].rank, of_rank, begin == 0);
    begin = end;
  }
  if (places.empty()) return "";
  return section("bytes", input.result ? "Predicted beside measured" : "Predicted bytes", content);
}

std::string loss(const ReportInput& input) {
  const std::string chart = loss_chart(input.metrics);
  if (chart.empty()) return "";
  return section("loss", "Loss",
                 paragraph("lead", describe_loss(input.metrics)) +
                     paragraph("note", describe_result(input)) +
                     tag("figure", {}, tag("div", {{"class", "chart"}}, chart)));
}

// Left out where there is no Graphviz.
std::string layout(const ReportInput& input) {
  if (!input.layout) return "";
  const auto drawing = render_graph(*input.layout, GraphFormat::kSvg);
  if (!drawing) return "";
  return section("layout", "What holds the memory",
                 tag("figure", {}, tag("div", {{"class", "chart layout"}}, for_page(*drawing))) +
                     paragraph("note",
                               "Solid: values of the forward. Dashed: their gradients, and those "
                               "that the optimizer reads. Bytes on arrows are those that go at a "
                               "time."));
}

std::string runners_up(const Plan& plan) {
  if (plan.runners_up.empty()) return "";
  const Attributes column = {{"scope", "col"}};
  std::string rows;
  for (const RunnerUp& runner : plan.runners_up) {
    rows += tag("tr", {},
                tag("th", {{"scope", "row"}}, escape_html(describe(runner.strategy))) +
                    tag("td", {}, format_bytes(runner.peak)) +
                    tag("td", {{"class", "words"}}, escape_html(runner.lost_by)));
  }
  const std::string heads =
      tag("th", column, "strategy") + tag("th", column, "peak") + tag("th", column, "why not");
  return tag("h3", {}, "What else was tried") +
         tag("div", {{"class", "scroll"}},
             tag("table", {{"class", "runners"}},
                 tag("thead", {}, tag("tr", {}, heads)) + tag("tbody", {}, rows)));
}

std::string what_ifs(const std::vector<WhatIf>& changes) {
  if (changes.empty()) return "";
  const Attributes column = {{"scope", "col"}};
  std::string rows;
  for (const WhatIf& change : changes) {
    const std::string words = std::string(change.fits == Fits::kNo ? "does not fit" : "") +
                              (change.fits == Fits::kNo && !change.note.empty() ? "; " : "") +
                              change.note;
    rows += tag("tr", {},
                tag("th", {{"scope", "row"}}, tag("code", {}, escape_html(change.flags))) +
                    tag("td", {}, format_bytes(change.peak)) +
                    tag("td", {}, signed_bytes(change.difference)) +
                    tag("td", {{"class", "words"}}, escape_html(words)));
  }
  const std::string heads = tag("th", column, "with") + tag("th", column, "peak") +
                            tag("th", column, "change") + tag("th", column, "");
  return section("what-if", "What other choices would change",
                 paragraph("lead", "The same plan with one thing changed.") +
                     tag("div", {{"class", "scroll"}},
                         tag("table", {{"class", "runners"}},
                             tag("thead", {}, tag("tr", {}, heads)) + tag("tbody", {}, rows))));
}

std::string plan_in_words(const Plan& plan) {
  std::string facts;
  for (const Fact& fact : describe(plan)) {
    facts += tag("dt", {}, escape_html(fact.label)) + tag("dd", {}, escape_html(fact.text));
  }
  std::string content = tag("dl", {{"class", "facts"}}, facts);
  std::string reasons;
  for (const std::string& reason : plan.why) reasons += tag("li", {}, escape_html(reason));
  if (!reasons.empty()) content += tag("h3", {}, "Why this strategy") + tag("ul", {}, reasons);
  return section("plan", "The plan", content + runners_up(plan));
}

std::string basis(const Plan& plan) {
  std::string content;
  for (const RankPrediction& rank : plan.predicted) {
    content += tag("dt", {}, "Rank " + std::to_string(rank.rank)) +
               tag("dd", {}, escape_html(describe_basis(rank)));
  }
  if (content.empty()) return "";
  std::string digests;
  for (const auto& [name, digest] : {std::pair{"model", plan.digests.model},
                                     {"data", plan.digests.data},
                                     {"runtime", plan.digests.runtime},
                                     {"machine", plan.digests.machine}}) {
    if (!digest.empty())
      digests += tag("dt", {}, name) + tag("dd", {}, tag("code", {}, escape_html(digest)));
  }
  if (!digests.empty()) {
    digests = "<details>" + tag("summary", {}, "Fingerprints of what the plan was made for") +
              tag("dl", {{"class", "facts"}}, digests) + "</details>";
  }
  return section("basis", "Where the numbers come from",
                 tag("dl", {{"class", "facts"}}, content) + digests);
}

}  // namespace

std::string render_html(const ReportInput& input) {
  const std::string head =
      "<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n" +
      tag("title", {}, escape_html("ftplan: " + title(input.plan))) + "\n" +
      tag("style", {}, page_files().front().text) + "\n";
  const std::string body =
      header(input) + memory(input) + comparison(input) + layout(input) + loss(input) +
      plan_in_words(input.plan) + what_ifs(input.what_ifs) + basis(input.plan) +
      tag("footer", {},
          "Made by ftplan from the plan" + std::string(input.result ? " and its run" : "") +
              ". GiB, MiB and KiB are 2<sup>30</sup>, 2<sup>20</sup> and 2<sup>10</sup> bytes.");
  return "<!doctype html>\n" +
         tag("html", {{"lang", "en"}},
             "\n<head>\n" + head + "</head>\n" +
                 tag("body", {}, tag("main", {}, "\n" + body + "\n")) + "\n") +
         "\n";
}

}  // namespace ftplan::reports

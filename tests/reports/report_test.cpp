#include "reports/report.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "core/text.h"
#include "reports/charts.h"
#include "support.h"

namespace ftplan::reports {
namespace {

std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1))
    ++count;
  return count;
}

TEST(Page, NamesNothingOutsideItself) {
  const std::string page = render_html(toy_report());
  for (const char* outside : {"http", "src=", "@import", "url(", "<link", "<script"}) {
    EXPECT_FALSE(has(page, outside)) << outside;
  }
}

TEST(Page, IsTheSameForTheSameInput) {
  EXPECT_EQ(render_html(toy_report()), render_html(toy_report()));
}

TEST(Page, TellsWhatOtherChoicesWouldChange) {
  const std::string page = render_html(toy_report());
  EXPECT_TRUE(has(page, "<code>--checkpointing none</code>"));
  EXPECT_TRUE(has(page, "does not fit; trains every weight"));
  ReportInput without = toy_report();
  without.what_ifs.clear();
  EXPECT_FALSE(has(render_html(without), "What other choices would change"));
}

TEST(Page, OpensAndClosesEachElement) {
  const std::string page = render_html(toy_report());
  for (const std::string name :
       {"section", "table", "tr", "td", "th", "dl", "dd", "svg", "figure", "details", "p", "g"}) {
    EXPECT_EQ(count_of(page, "<" + name + " ") + count_of(page, "<" + name + ">"),
              count_of(page, "</" + name + ">"))
        << name;
  }
}

TEST(Page, EscapesEveryTextOfThePlan) {
  const std::string evil = "<script>'\"&";
  ReportInput input = toy_report();
  input.plan.model.name = input.plan.job.devices.gpus = evil;
  input.plan.why = {evil};
  input.plan.runners_up[0].lost_by = evil;
  input.what_ifs[0].flags = input.what_ifs[0].note = evil;
  input.plan.predicted[0].peak_instruction = evil;
  input.plan.machine.instruction_set = input.plan.machine.torch = evil;
  input.plan.job.method.targets = {evil};
  input.plan.digests.model = evil;
  for (Instant& instant : input.timelines[0].instants) instant.phase = instant.operation = evil;
  const std::string page = render_html(input);
  EXPECT_FALSE(has(page, "<script"));
  EXPECT_FALSE(has(page, "'\"&"));
  EXPECT_GE(count_of(page, "&lt;script&gt;&#39;&quot;&amp;"), 8U);
}

TEST(Page, MarksThePeakOnceAndSaysWhatRuns) {
  const std::string page = render_html(toy_report());
  EXPECT_EQ(count_of(page, "class=\"peak\""), 1U);
  // At the peak: 60 weights + 4 adapters + 8 optimizer + 9 checkpoints + 6 activations + 5 scratch
  // + 6 logits.
  EXPECT_TRUE(has(page, "<tspan>peak " + format_bytes((60 + 4 + 8 + 9 + 6 + 5 + 6) * kMiB)));
  EXPECT_TRUE(has(page, "backward, layer 0: attention"));
}

TEST(Page, MarksWhatIsDifferent) {
  ReportInput input = toy_report();
  EXPECT_FALSE(has(render_html(input), "\u2260"));
  input.result->ranks[0].measured.device.scratch -= Bytes{64};
  EXPECT_TRUE(has(render_html(input), "\u2260 -64"));
}

TEST(Page, OfAPlanAloneHasNoMeasuredColumnAndNoLoss) {
  const std::string page =
      render_html({.plan = toy_plan(), .timelines = {}, .result = {}, .metrics = {}});
  EXPECT_FALSE(has(page, "Measured"));
  EXPECT_FALSE(has(page, "id=\"loss\""));
  EXPECT_FALSE(has(page, "id=\"memory\""));
  EXPECT_TRUE(has(page, "Predicted bytes"));
}

TEST(Page, OfAnEmptyPlanIsStillAPage) {
  const std::string page = render_html({});
  EXPECT_TRUE(has(page, "nothing is predicted"));
  EXPECT_TRUE(has(page, "</html>"));
}

TEST(MemoryChart, StaysSmallForManyInstants) {
  EXPECT_LT(memory_chart(toy_timeline(100'000), {}, {}).size(), 200U << 10);
}

TEST(MemoryChart, DrawsTheLimitOnlyWhereItIsNear) {
  const Timeline timeline = toy_timeline(40);  // peak 98 MiB
  EXPECT_TRUE(has(memory_chart(timeline, {}, 110 * kMiB), "limit 110.0 MiB"));
  EXPECT_FALSE(has(memory_chart(timeline, {}, 8 * kGiB), "limit"));
}

TEST(LossChart, DrawsBothCurvesAndNothingWithoutNumbers) {
  const std::string chart = loss_chart(falling_loss());
  EXPECT_TRUE(has(chart, "curve training"));
  EXPECT_TRUE(has(chart, "curve validation"));
  EXPECT_TRUE(has(chart, "lowest 1.3728"));  // 1.15 + 3 exp(-39 / 15)
  EXPECT_EQ(loss_chart({}), "");
  EXPECT_FALSE(has(chart, "nan"));
}

TEST(LossChart, OneStepIsAPoint) {
  StepMetrics step;
  step.step = 1;
  step.loss = 2;
  const std::string chart = loss_chart({step});
  EXPECT_EQ(count_of(chart, "<circle"), 1U);
  EXPECT_FALSE(has(chart, "nan"));
}

TEST(Terminal, ShowsEveryByteAndTheVerdict) {
  const std::string text = render_terminal(toy_report());
  EXPECT_TRUE(
      has(text, "  weights               62,914,560          62,914,560  equal\n"));  // 60 * 2^20
  EXPECT_TRUE(has(text, "Predicted equals measured, to the byte, on all 9 lines.\n"));
}

TEST(Terminal, HoldsNoControlCharactersOfTheInput) {
  ReportInput input = toy_report();
  input.plan.model.name = "\x1b[2J";
  input.plan.why = {"\x1b]0;title\x07"};
  input.timelines[0].instants[16].operation = "\x1b[31m";
  const std::string text = render_terminal(input);
  EXPECT_TRUE(std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 && c != '\n';
  }));
}

TEST(Terminal, KeepsToAHundredColumns) {
  for (const std::string& line : split(render_terminal(toy_report()), '\n')) {
    const auto columns = std::count_if(line.begin(), line.end(), [](char c) {
      return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    });
    EXPECT_LE(columns, 100) << line;
  }
}

}  // namespace
}  // namespace ftplan::reports

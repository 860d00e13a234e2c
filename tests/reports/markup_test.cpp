#include "reports/markup.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace ftplan::reports {
namespace {

TEST(EscapeHtml, LeavesNothingThatMarkupWouldObey) {
  EXPECT_EQ(escape_html("<a href=\"x\" id='y'>&"),
            "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;");
}

TEST(EscapeHtml, KeepsOtherTextAndReplacesControls) {
  EXPECT_EQ(escape_html("\u00fc \u4e2d 1+1"), "\u00fc \u4e2d 1+1");
  EXPECT_EQ(escape_html(std::string("a\0b\x1b", 4)), "a\uFFFDb\uFFFD");
}

TEST(Printable, ReplacesWhatATerminalWouldObey) {
  EXPECT_EQ(printable("red\x1b[31m\x7f\r\n"), "red?[31m???");
  EXPECT_EQ(printable("one-byte CSI \u009b31m"), "one-byte CSI ?31m");
  EXPECT_EQ(printable("\u00fc"), "\u00fc");
}

TEST(Tag, EscapesItsValuesAndKeepsItsContent) {
  EXPECT_EQ(tag("b", {{"title", "\"<"}}, "<i></i>"), "<b title=\"&quot;&lt;\"><i></i></b>");
}

TEST(WithCommas, GroupsThreeDigits) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1'000), "1,000");
  EXPECT_EQ(with_commas(-123'456), "-123,456");
  EXPECT_EQ(with_commas(1'234'567), "1,234,567");
}

TEST(WithSign, SaysWhichSideIsMore) {
  EXPECT_EQ(with_sign(64), "+64");
  EXPECT_EQ(with_sign(-6400), "-6,400");
  EXPECT_EQ(with_sign(0), "0");
}

TEST(Pad, CountsCharactersNotBytes) {
  EXPECT_EQ(pad_left("\u00fc", 3), "  \u00fc");
  EXPECT_EQ(pad_right("\u00fc", 3), "\u00fc  ");
  EXPECT_EQ(pad_left("longer", 3), "longer");
}

TEST(Shorten, CutsAtACharacterAndSaysSo) {
  EXPECT_EQ(shorten("four", 4), "four");
  EXPECT_EQ(shorten("fives", 4), "fiv\u2026");
  EXPECT_EQ(shorten("\u00fc\u00fc\u00fc", 2), "\u00fc\u2026");
}

TEST(Wrap, BreaksAtSpacesOnly) {
  EXPECT_EQ(wrap("one two  three fourteenth", 9),
            (std::vector<std::string>{"one two", "three", "fourteenth"}));
  EXPECT_TRUE(wrap("", 9).empty());
}

}  // namespace
}  // namespace ftplan::reports

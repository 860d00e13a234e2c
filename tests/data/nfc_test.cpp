#include "data/nfc.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "data/working_text.h"

namespace ftplan::data {
namespace {

// The text after normalization.
std::string composed(std::string_view text) {
  WorkingText working({.text = text}, Tracking::kOff);
  working.compose();
  return working.bytes();
}

TEST(Nfc, ComposesABaseWithItsMarks) {
  EXPECT_EQ(composed("e\u0301"), "\u00E9");
  // Two marks compose one after the other: o + circumflex + dot below is o, dot, circumflex.
  EXPECT_EQ(composed("o\u0302\u0323"), "\u1ED9");
  EXPECT_EQ(composed("x\u0301"), "x\u0301");
}

TEST(Nfc, OrdersMarksByTheirClass) {
  // 230 above and 220 below: the lower class comes first; equal classes keep their order.
  EXPECT_EQ(composed("x\u0301\u0316"), "x\u0316\u0301");
  EXPECT_EQ(composed("x\u0301\u0300"), "x\u0301\u0300");
}

TEST(Nfc, AMarkBetweenOfTheSameClassBlocks) {
  EXPECT_EQ(composed("a\u0315\u0301"), "\u00E1\u0315");   // 232 and 230: not blocked
  EXPECT_EQ(composed("a\u030D\u0301"), "a\u030D\u0301");  // both 230: blocked
}

TEST(Nfc, ComposesHangul) {
  EXPECT_EQ(composed("\u1112\u1161\u11AB"), "\uD55C");  // ㅎ + ㅏ + ㄴ = 한
  EXPECT_EQ(composed("\uAC00\u11A8"), "\uAC01");
  EXPECT_EQ(composed("\uAC01\u11A8"), "\uAC01\u11A8");  // a syllable with a tail takes no other
}

TEST(Nfc, ReplacesWhatOnlyDecomposes) {
  EXPECT_EQ(composed("\u212B"), "\u00C5");        // angstrom sign: A with ring
  EXPECT_EQ(composed("\u0958"), "\u0915\u093C");  // excluded from composition
}

TEST(Nfc, LeavesOtherTextAlone) {
  const std::string text = "plain \u00E9 \u6F22\u5B57 \U0001F600 \uD55C\n";
  EXPECT_TRUE(nfc_changes(text).empty());
  EXPECT_EQ(composed(text), text);
  EXPECT_EQ(composed(""), "");
}

TEST(WorkingText, KnowsWhereItsBytesCameFrom) {
  // "a e´b c" with e´ of 3 bytes: the composed letter ends where its mark ended.
  WorkingText text({.text = "a e\u0301b"}, Tracking::kOn);
  text.compose();
  text.replace_all(" ", "__");
  text.prepend("^^");
  EXPECT_EQ(text.bytes(), "^^a__\u00E9b");
  const std::vector<std::size_t> ends{/*^^a=*/1, 1, 1, /*__=*/2, 2, /*é=*/5, 5, /*b=*/6};
  for (std::size_t i = 0; i < ends.size(); ++i) EXPECT_EQ(text.part().end_of(i + 1), ends[i]) << i;
}

}  // namespace
}  // namespace ftplan::data

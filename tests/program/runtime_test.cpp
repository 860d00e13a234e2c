#include "program/runtime.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>

#include "program/runtime_files.h"

namespace ftplan::program {
namespace {

std::string hf_text() { return std::string(runtime_files().front().text); }

// `hf.json` with one piece of its text replaced.
std::string problem_with(const std::string& from, const std::string& to) {
  std::string text = hf_text();
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
  const auto profile = read_runtime(text, "hf.json");
  return profile.ok() ? "" : profile.error().text();
}

TEST(Runtime, OursExpandsNothing) { EXPECT_FALSE(runtime_profile("ftplan").expands); }

TEST(Runtime, HfIsReadFromItsFile) {
  const RuntimeProfile& hf = runtime_profile("hf");
  EXPECT_TRUE(hf.expands);
  EXPECT_TRUE(hf.logits_in_f32);
  EXPECT_TRUE(hf.holds_logits);
}

TEST(Runtime, AnUnknownValueNamesTheKnownOnes) {
  EXPECT_EQ(problem_with("\"sdpa\"", "\"flash\""),
            "hf.json: attention: got \"flash\", expected sdpa | eager");
}

TEST(Runtime, AnUnknownSwitchIsRefused) {
  EXPECT_EQ(problem_with("\"holds_logits\"", "\"keeps_logits\""),
            "hf.json: \"keeps_logits\" is no switch");
}

TEST(Runtime, ASwitchNamesItsSource) {
  std::string text = hf_text();
  const std::size_t begin = text.find("\"source\": \"") + 11;
  text.replace(begin, text.find('"', begin) - begin, "");
  const auto profile = read_runtime(text, "hf.json");
  ASSERT_FALSE(profile.ok());
  EXPECT_EQ(profile.error().text(), "hf.json: attention names no source");
}

TEST(Runtime, EverySwitchIsThereOnce) {
  EXPECT_EQ(problem_with("\"sdpa_repeats_keys\"", "\"autocast_full\""),
            "hf.json: sdpa_repeats_keys is there 0 times, expected once");
}

}  // namespace
}  // namespace ftplan::program

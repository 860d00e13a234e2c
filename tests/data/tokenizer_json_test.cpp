#include "data/tokenizer_json.h"

#include <gtest/gtest.h>

#include <string>

#include "core/result.h"
#include "support.h"

namespace ftplan::data {
namespace {

// What is wrong with a byte-level tokenizer with these parts, its path left out.
std::string problem(const std::string& vocabulary, const std::string& pre_tokenizer,
                    const std::string& normalizer = "null") {
  const TestFolder folder;
  const std::string path =
      folder.write("tokenizer.json", R"({"model": {"type": "BPE", "vocab": )" + vocabulary +
                                         R"(, "merges": []}, "normalizer": )" + normalizer +
                                         R"(, "pre_tokenizer": )" + pre_tokenizer +
                                         R"(, "decoder": {"type": "ByteLevel"}})");
  TokenizerJsonReader reader(path);
  std::string text = error_of(reader.read());
  if (text.starts_with(path)) text.erase(0, path.size());
  return text;
}

const std::string kByteLevel = R"({"type": "ByteLevel", "add_prefix_space": false})";
const std::string kVocabulary = R"({"a": 0})";

std::string sequence(const std::string& parts) {
  return R"({"type": "Sequence", "pretokenizers": [)" + parts + "]}";
}

TEST(TokenizerJson, TakesStepsInFrontOfByteLevelAndBehindIt) {
  EXPECT_EQ(problem(kVocabulary, kByteLevel), "no error");
  EXPECT_EQ(problem(kVocabulary, sequence(R"({"type": "Punctuation", "behavior": "Contiguous"}, )" +
                                          kByteLevel + R"(, {"type": "Digits"})")),
            "no error");
  EXPECT_EQ(problem(kVocabulary, kByteLevel, R"({"type": "NFC"})"), "no error");
}

TEST(TokenizerJson, NamesTheComponentThatIsNotSupported) {
  const auto starts = [](const std::string& text, const std::string& start) {
    EXPECT_EQ(text.substr(0, start.size()), start) << text;
  };
  starts(
      problem(kVocabulary, sequence(kByteLevel + ", " + kByteLevel)),
      "#/pre_tokenizer/pretokenizers/1: ByteLevel after the last splitting step is not supported");
  starts(problem(kVocabulary,
                 sequence(R"({"type": "Punctuation", "behavior": "Removed"}, )" + kByteLevel)),
         "#/pre_tokenizer/pretokenizers/0: Punctuation with behavior Removed is not supported");
  starts(problem(kVocabulary, kByteLevel, R"({"type": "NFKC"})"),
         "#/normalizer: the normalizer NFKC is not supported");
  starts(problem(kVocabulary, kByteLevel, R"({"type": "Prepend", "prepend": "x"})"),
         ": ByteLevel with byte_fallback, Prepend or Replace is not supported");
}

TEST(TokenizerJson, RefusesAnIdThatNoVocabularyHas) {
  EXPECT_EQ(problem(R"({"a": 16777215})", kByteLevel), "no error");
  EXPECT_EQ(problem(R"({"a": 16777216})", kByteLevel),
            ": #/model/vocab: got 16777216, expected an object of tokens and their ids, below "
            "16777216");
}

}  // namespace
}  // namespace ftplan::data

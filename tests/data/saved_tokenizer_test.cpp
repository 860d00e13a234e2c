#include "data/saved_tokenizer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "data/tokenizer.h"
#include "support.h"

namespace ftplan::data {
namespace {

using Ids = std::vector<std::int32_t>;

// Letters of their own, `<s>`, and a pad token that only the settings name.
constexpr std::string_view kJson =
    R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "<": 2, ">": 3, "x": 4}, "merges": []},
        "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
        "decoder": {"type": "ByteLevel"},
        "added_tokens": [{"id": 5, "content": "<s>", "special": true}]})";
constexpr std::string_view kSettings = R"({"pad_token": "<pad>", "bos_token": "<s>"})";

class NewTokens : public ::testing::Test {
 protected:
  NewTokens() {
    static_cast<void>(from_.write("tokenizer.json", kJson));
    static_cast<void>(from_.write("tokenizer_config.json", kSettings));
  }

  [[nodiscard]] TokenizerSource source(std::vector<std::string> added) const {
    return {.folder = from_.path(""), .model_folder = {}, .added = std::move(added)};
  }
  static std::unique_ptr<Tokenizer> load(const TokenizerSource& source) {
    auto tokenizer = load_tokenizer(source);
    EXPECT_TRUE(tokenizer) << error_of(tokenizer);
    return tokenizer ? *std::move(tokenizer) : nullptr;
  }
  static Ids encode(const Tokenizer& tokenizer, const std::string& text) {
    const auto ids = tokenizer.encode(text, Surround::kNothing);
    EXPECT_TRUE(ids) << error_of(ids);
    return ids ? *ids : Ids{};
  }

  TestFolder from_, to_;
};

TEST_F(NewTokens, GetTheNextFreeIdsBehindAllNamedOnes) {
  const auto tokenizer = load(source({"<x>", "b", "<y>"}));
  // 0 to 4 letters, 5 <s>, 6 <pad>; "b" has an id.
  EXPECT_EQ(encode(*tokenizer, "a<x>b<y>a<pad>"), (Ids{0, 7, 1, 8, 0, 6}));
  EXPECT_EQ(tokenizer->vocabulary(), 9);
  EXPECT_FALSE(tokenizer->is_special(7));
  EXPECT_NE(tokenizer->digest(), load(source({}))->digest());
}

TEST_F(NewTokens, AreSavedWithTheirIds) {
  const TokenizerSource added = source({"<x>", "b", "<y>"});
  const auto tokenizer = load(added);
  ASSERT_TRUE(save_tokenizer(added, *tokenizer, to_.path("")));
  const auto saved = load({.folder = to_.path(""), .model_folder = {}, .added = {}});
  const std::string text = "a<x>b<y>a<pad><s>";
  EXPECT_EQ(encode(*saved, text), encode(*tokenizer, text));
  EXPECT_EQ(saved->vocabulary(), 9);
  EXPECT_TRUE(saved->is_special(6));
  // What only the settings named is listed too, so that the next ids stay free for nobody else.
  const Json json = Json::parse(read_file(to_.path("tokenizer.json")));
  EXPECT_EQ(json["added_tokens"].size(), 4);
  EXPECT_EQ(read_file(to_.path("tokenizer_config.json")), kSettings);
}

TEST_F(NewTokens, AreListedWhereverTheTokenizerListsSome) {
  static_cast<void>(from_.write("tokenizer_config.json",
                                R"({"added_tokens_decoder": {"5": {"content": "<s>"}}})"));
  static_cast<void>(from_.write("added_tokens.json", R"({"<s>": 5})"));
  const TokenizerSource added = source({"<x>"});
  ASSERT_TRUE(save_tokenizer(added, *load(added), to_.path("")));
  const Json settings = Json::parse(read_file(to_.path("tokenizer_config.json")));
  EXPECT_EQ(settings["added_tokens_decoder"]["6"]["content"], "<x>");
  const Json legacy = Json::parse(read_file(to_.path("added_tokens.json")));
  EXPECT_EQ(legacy, Json::parse(R"({"<s>": 5, "<x>": 6})"));
}

TEST_F(NewTokens, WithoutAnyTheFilesAreCopied) {
  ASSERT_TRUE(save_tokenizer(source({}), *load(source({})), to_.path("")));
  EXPECT_EQ(read_file(to_.path("tokenizer.json")), kJson);
  EXPECT_FALSE(has_tokenizer(to_.path("none")));
  EXPECT_TRUE(has_tokenizer(to_.path("")));
}

}  // namespace
}  // namespace ftplan::data

#include "data/instruction.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/data_options.h"
#include "core/result.h"
#include "data/data_set.h"
#include "data/documents.h"
#include "support.h"

namespace ftplan::data {
namespace {

class TemplateFile : public ::testing::Test {
 protected:
  // What a record becomes, `prompt|answer`, or the error without the folder.
  std::string filled(const std::string& text, const Instruction& record) {
    const std::string path = folder_.write("t.txt", text);
    const auto shape = InstructionTemplate::load(path);
    if (!shape) return without_folder(shape.error().text());
    const auto texts = shape->fill(record, "d.json record 7");
    return texts ? texts->prompt + "|" + texts->answer : texts.error().text();
  }
  std::string without_folder(std::string text) {
    if (text.starts_with(folder_.path(""))) text.erase(0, folder_.path("").size());
    return text;
  }
  Result<DataSet> load(const DataOptions& options) { return load_data(options, context_); }

  TestFolder folder_;
  ByteTokenizer tokenizer_;
  DataContext context_{.tokenizer = &tokenizer_, .cache_folder = {}};
};

TEST_F(TemplateFile, FieldsAreReplacedAndTheAnswerBeginsAtTheResponse) {
  EXPECT_EQ(filled("Q: {instruction}\n{input}\nA: {response} END\n", {"why", "ctx", "so"}),
            "Q: why\nctx\nA: |so END");
  EXPECT_EQ(filled("{instruction}{instruction}{response}", {"a", "", "b"}), "aa|b");
}

TEST_F(TemplateFile, OneLineEndAtTheEndIsNotPartOfIt) {
  EXPECT_EQ(filled("{instruction} {response}\n\n", {"a", "", "b"}), "a |b\n");
  EXPECT_EQ(filled("{instruction} {response}\r\n", {"a", "", "b"}), "a |b");
  EXPECT_EQ(filled("\xEF\xBB\xBF{instruction} {response}", {"a", "", "b"}), "a |b");
}

TEST_F(TemplateFile, BracesAreDoubledAndRecordsAreNotLookedInto) {
  EXPECT_EQ(filled("{{{instruction}}} {{x}} {response}", {"{input}", "", "{{"}),
            "{{input}} {x} |{{");
}

TEST_F(TemplateFile, NamesThePlaceOfWhatItDoesNotKnow) {
  const Instruction any{"a", "", "b"};
  const std::string expected =
      ", expected {instruction}, {input} or {response}; write {{ for a brace";
  EXPECT_EQ(filled("{instruction}\nA: {output}", any),
            "t.txt line 2 column 4: {output} is no field" + expected);
  EXPECT_EQ(filled("{Instruction} {response}", any),
            "t.txt line 1 column 1: {Instruction} is no field" + expected);
  EXPECT_EQ(filled("{instruction\n} {response}", any),
            "t.txt line 1 column 1: { does not close" + expected);
  EXPECT_EQ(filled("{instruction} } {response}", any),
            "t.txt line 1 column 15: } closes nothing; write }} for a brace");
  EXPECT_EQ(filled("{response}", any), "t.txt: has no {instruction}");
  EXPECT_EQ(filled("{instruction}", any), "t.txt: has {response} 0 times, expected once");
  EXPECT_EQ(filled("{instruction}{response}{response}", any),
            "t.txt: has {response} 2 times, expected once");
  EXPECT_EQ(filled("{instruction}\n\xFF{response}", any), "t.txt line 2 column 1: is not UTF-8");
}

TEST_F(TemplateFile, AnInputWithoutAPlaceIsRefused) {
  EXPECT_EQ(filled("{instruction} {response}", {"a", "ctx", "b"}),
            "d.json record 7: has an input, for which the template has no {input}");
}

TEST_F(TemplateFile, ItsRowsAreTokenizedAsTheTemplateSays) {
  const std::string path = folder_.write("t.txt", "<{instruction}/{input}> {response}.\n");
  const std::string data = folder_.write(
      "d.jsonl", R"({"instruction": "i", "context": "c", "response": "r", "category": "x"})");
  const auto set = load({.data = {data}, .prompt_template = path});
  ASSERT_TRUE(set) << error_of(set);
  EXPECT_EQ(set->training.ids, ids_of_text("<i/c> r."));
  std::vector<std::int32_t> labels = ids_of_text("<i/c> r.");
  for (int t = 0; t < /*BOS and "<i/c> "=*/1 + 6; ++t) {
    labels[static_cast<std::size_t>(t)] = kNoLabel;
  }
  EXPECT_EQ(set->training.labels, labels);
}

TEST_F(TemplateFile, AnEditedTemplateIsTokenizedAgain) {
  context_.cache_folder = folder_.path("cache");
  const std::string data = folder_.write("d.jsonl", R"({"instruction": "i", "output": "r"})");
  const std::string path = folder_.write("t.txt", "{instruction}:{response}");
  const DataOptions options{.data = {data}, .prompt_template = path};
  EXPECT_FALSE(load(options)->from_cache);
  EXPECT_TRUE(load(options)->from_cache);
  static_cast<void>(folder_.write("t.txt", "{instruction};{response}"));
  EXPECT_FALSE(load(options)->from_cache);
  EXPECT_FALSE(load({.data = {data}})->from_cache);
}

TEST_F(TemplateFile, IsRefusedWhereItDoesNotBelong) {
  const std::string data = folder_.write("d.jsonl", R"({"instruction": "i", "output": "r"})");
  EXPECT_EQ(
      error_of(load({.data = {data}, .prompt_template = "chatml"})),
      "--template: chatml is for conversations, but the data holds alpaca, which takes a file");
  EXPECT_NE(error_of(load({.data = {data}, .prompt_template = folder_.path("none.txt")}))
                .find("none.txt"),
            std::string::npos);
}

}  // namespace
}  // namespace ftplan::data

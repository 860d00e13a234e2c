#include "data/documents.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/data_options.h"
#include "core/result.h"
#include "data/instruction.h"
#include "data/source.h"
#include "support.h"

namespace ftplan::data {
namespace {

using ::testing::Test;

class DocumentsTest : public Test {
 protected:
  Result<Documents> read(const std::vector<std::string>& paths,
                         std::optional<DataFormat> format = {}, const ReadOptions& options = {}) {
    auto sources = open_sources(paths, format);
    if (!sources) return sources.error();
    ReadOptions how = options;
    if (is_instruction_format(sources->front().format) && !how.instruction) {
      how.instruction = InstructionTemplate::of_format(sources->front().format);
    }
    return read_documents(*sources, tokenizer_, how);
  }
  // The error of one file, its folder left out.
  std::string problem(const std::string& name, const std::string& content,
                      std::optional<DataFormat> format = {}) {
    std::string text = error_of(read({folder_.write(name, content)}, format));
    const std::string folder = folder_.path("");
    for (std::size_t at = text.find(folder); at != std::string::npos; at = text.find(folder)) {
      text.erase(at, folder.size());
    }
    return text;
  }

  TestFolder folder_;
  ByteTokenizer tokenizer_;
};

const std::string kPromptOfAdd =
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nAdd\n\n### Input:\n1 and 2\n\n### Response:";
const std::string kPromptOfHi =
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\nSay hi\n\n### Response:";

// The prompt with BOS is not learned; the answer and EOS are.
std::vector<std::int32_t> labels_of_answer(const std::string& prompt, const std::string& answer) {
  std::vector<std::int32_t> labels = ids_of_text(prompt + answer);
  for (std::size_t t = 0; t < prompt.size() + 1; ++t) labels[t] = kNoLabel;
  return labels;
}

std::vector<std::int32_t> copy(std::span<const std::int32_t> values) {
  return {values.begin(), values.end()};
}

TEST_F(DocumentsTest, ReadsAlpacaWithTheStanfordPrompts) {
  const std::string list =
      R"([{"instruction": "Add", "input": "1 and 2", "output": "3"},
          {"instruction": "Say hi", "input": "", "output": "hi", "text": "ignored"}])";
  const auto documents = read({folder_.write("a.json", list)});
  ASSERT_TRUE(documents) << error_of(documents);
  ASSERT_EQ(documents->count(), 2);
  EXPECT_EQ(copy(documents->ids_of(0)), ids_of_text(kPromptOfAdd + "3"));
  EXPECT_EQ(copy(documents->labels_of(0)), labels_of_answer(kPromptOfAdd, "3"));
  EXPECT_EQ(copy(documents->ids_of(1)), ids_of_text(kPromptOfHi + "hi"));
  EXPECT_EQ(copy(documents->labels_of(1)), labels_of_answer(kPromptOfHi, "hi"));
}

TEST_F(DocumentsTest, ReadsDollyWithItsPublishedPrompts) {
  const std::string lines =
      R"({"instruction": "Who?", "context": "Ann ran.", "response": "Ann", "category": "closed_qa"})"
      "\n"
      R"({"instruction": "Say {input}", "context": "", "response": "{response}", "category": "x"})";
  const std::string intro =
      "Below is an instruction that describes a task. Write a response that appropriately "
      "completes the request.\n\n### Instruction:\n";
  const auto documents = read({folder_.write("d.jsonl", lines)});
  ASSERT_TRUE(documents) << error_of(documents);
  ASSERT_EQ(documents->count(), 2);
  const std::string first = intro + "Who?\n\nInput:\nAnn ran.\n\n### Response:\n";
  EXPECT_EQ(copy(documents->ids_of(0)), ids_of_text(first + "Ann\n\n### End"));
  EXPECT_EQ(copy(documents->labels_of(0)), labels_of_answer(first, "Ann\n\n### End"));
  // What a record says is never taken for a field of the template.
  const std::string second = intro + "Say {input}\n\n### Response:\n";
  EXPECT_EQ(copy(documents->labels_of(1)), labels_of_answer(second, "{response}\n\n### End"));
}

TEST_F(DocumentsTest, NamesTheBrokenDollyRecord) {
  const std::string good = R"({"instruction": "a", "response": "b"})";
  EXPECT_EQ(
      problem("d.jsonl", good + "\n" + R"({"instruction": "a", "output": "b"})"),
      "d.jsonl record 2: has no \"response\"; a record of dolly has instruction, context (may "
      "be left out) and response");
  EXPECT_EQ(problem("d.jsonl", R"({"instruction": "a", "context": 1, "response": "b"})"),
            "d.jsonl record 1#/context: got 1, expected a string");
}

TEST_F(DocumentsTest, ListAndLinesAreTheSame) {
  const std::string one = R"({"instruction": "Add", "input": null, "output": "3"})";
  const std::string two = R"({"instruction": "a ] } \" [", "output": "\\"})";
  const auto list = read({folder_.write("a.json", "\xEF\xBB\xBF [" + one + " ,\n" + two + "]\n")});
  const auto lines = read({folder_.write("a.jsonl", one + "\r\n\n" + two)});
  ASSERT_TRUE(list) << error_of(list);
  ASSERT_TRUE(lines) << error_of(lines);
  EXPECT_EQ(*list, *lines);
  EXPECT_EQ(list->count(), 2);
}

TEST_F(DocumentsTest, LearnsThePromptWhenAsked) {
  const auto documents =
      read({folder_.write("a.jsonl", R"({"instruction": "Say hi", "output": "hi"})")}, {},
           {.train_on_prompt = true});
  ASSERT_TRUE(documents) << error_of(documents);
  EXPECT_EQ(documents->labels, documents->ids);
}

TEST_F(DocumentsTest, APlainFileIsOneDocument) {
  const auto documents =
      read({folder_.write("one.txt", "[not json\n\n"), folder_.write("two.md", "b")});
  ASSERT_TRUE(documents) << error_of(documents);
  ASSERT_EQ(documents->count(), 2);
  EXPECT_EQ(copy(documents->ids_of(0)), ids_of_text("[not json\n\n"));
  EXPECT_EQ(copy(documents->labels_of(1)), ids_of_text("b"));
}

TEST_F(DocumentsTest, TextLinesAreDocuments) {
  const auto documents = read({folder_.write("t.jsonl", "{\"text\": \"a\\n\"}\n{\"text\": \"\"}")});
  ASSERT_TRUE(documents) << error_of(documents);
  EXPECT_EQ(documents->count(), 2);
  EXPECT_EQ(copy(documents->ids_of(0)), ids_of_text("a\n"));
  EXPECT_EQ(copy(documents->ids_of(1)), ids_of_text(""));
}

TEST_F(DocumentsTest, ThreadsDoNotChangeTheResult) {
  std::string lines;
  for (int i = 0; i < 10000; ++i) {
    lines += R"({"text": ")" + std::string(static_cast<std::size_t>(i % 17), 'x') +
             std::to_string(i) + "\"}\n";
  }
  const std::string path = folder_.write("t.jsonl", lines);
  const auto one = read({path}, {}, {.threads = 1});
  const auto five = read({path}, {}, {.threads = 5});
  ASSERT_TRUE(one && five);
  EXPECT_EQ(one->count(), 10000);
  EXPECT_EQ(*one, *five);
}

TEST_F(DocumentsTest, NamesTheBrokenRecord) {
  const std::string good = R"({"instruction": "a", "output": "b"})";
  const auto list_with = [&](const std::string& record) {
    std::string text = "[";
    for (int i = 1; i < 17; ++i) text += good + ",\n";
    return text + record + ", " + good + "]";
  };
  EXPECT_EQ(
      problem("data.json", list_with(R"({"instruction": "a"})")),
      "data.json record 17: has no \"output\"; a record of alpaca has instruction, input (may be "
      "left out) and output");
  EXPECT_EQ(problem("data.json", list_with(R"({"instruction": "a", "output": 5})")),
            "data.json record 17#/output: got 5, expected a string");
  EXPECT_EQ(
      problem("data.json", list_with("7")),
      "data.json record 17: expected an object: a record of alpaca has instruction, input (may "
      "be left out) and output");
  const std::string not_json =
      problem("data.json", list_with(R"({"instruction": "a",, "output"})"));
  EXPECT_EQ(not_json.substr(0, 20), "data.json record 17:") << not_json;
  EXPECT_EQ(problem("data.json", list_with(good + good)),
            "data.json record 18: not valid JSON: expected a comma before it");
}

TEST_F(DocumentsTest, TheFirstBrokenRecordIsNamedWhateverTheThreads) {
  std::string lines;
  for (int i = 1; i <= 9000; ++i) {
    lines += i % 4000 == 0 ? "{\"text\": 1}\n" : "{\"text\": \"a\"}\n";
  }
  const auto result = read({folder_.write("t.jsonl", lines)}, {}, {.threads = 7});
  EXPECT_NE(error_of(result).find("t.jsonl record 4000#/text: got 1"), std::string::npos)
      << error_of(result);
}

TEST_F(DocumentsTest, RefusesWhatIsCutOff) {
  const std::string list =
      R"([{"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d"}])";
  // Whole only at its full length; wherever it ends, an error names the file and no crash follows.
  for (std::size_t size = 0; size < list.size(); ++size) {
    const std::string text = problem("data.json", list.substr(0, size));
    EXPECT_EQ(text.substr(0, 9), "data.json") << size << ": " << text;
  }
  EXPECT_EQ(problem("data.json", list), "no error");
  EXPECT_EQ(
      problem("data.json", list.substr(0, 40)),
      "data.json record 2: not valid JSON: no whole record; the file is cut off, or a comma is "
      "one too many");
  EXPECT_EQ(problem("data.json", list.substr(0, list.size() - 1)),
            "data.json record 3: not valid JSON: the list does not end; the file is cut off");
  EXPECT_EQ(problem("data.json", list + "]"),
            "data.json record 3: not valid JSON: text after the end of the list");
}

TEST_F(DocumentsTest, RefusesWhatHasNoKnownFormat) {
  EXPECT_EQ(problem("e.json", " \n"), "e.json: is empty");
  EXPECT_EQ(problem("it's.parquet", "PAR1 and more"),
            "it's.parquet: is Parquet, which is not read yet: convert it with  python3 -c \"import "
            "json, sys, pyarrow.parquet as p; [print(json.dumps(row)) for batch in "
            "p.ParquetFile(sys.argv[1]).iter_batches() for row in batch.to_pylist()]\" "
            "'it'\\''s.parquet' > 'it'\\''s.jsonl'");
  EXPECT_EQ(problem("k.jsonl", R"({"question": "a", "answer": "b"})"),
            "k.jsonl: the format cannot be told from the first record, whose keys are question, "
            "answer; expected instruction and output (alpaca), instruction and response (dolly), "
            "messages or conversations (chat), text, or input_ids (tokens); --format names it");
  EXPECT_NE(error_of(read({folder_.path("missing.json")})).find("missing.json"), std::string::npos);
  EXPECT_EQ(error_of(read({})), "--data: no file to learn from");
}

TEST_F(DocumentsTest, RefusesFilesOfTwoFormats) {
  const std::string text = folder_.write("t.txt", "a");
  const std::string alpaca = folder_.write("a.jsonl", R"({"instruction": "a", "output": "b"})");
  EXPECT_NE(error_of(read({text, alpaca})).find("holds alpaca, but "), std::string::npos);
}

TEST_F(DocumentsTest, AnswersNeedAnEndThatTheTokenizerNames) {
  const ByteTokenizer without_eos("bytes", /*has_eos=*/false);
  const auto sources =
      open_sources({folder_.write("a.jsonl", R"({"instruction": "a", "output": "b"})")}, {});
  ASSERT_TRUE(sources);
  const ReadOptions how{.instruction = InstructionTemplate::of_format(DataFormat::kAlpaca)};
  EXPECT_NE(error_of(read_documents(*sources, without_eos, how)).find("set eos_token"),
            std::string::npos);
}

}  // namespace
}  // namespace ftplan::data

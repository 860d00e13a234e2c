#include "data/tokens_json.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/data_options.h"
#include "core/result.h"
#include "data/documents.h"
#include "data/rows.h"
#include "data/source.h"
#include "support.h"

namespace ftplan::data {
namespace {

class TokensJsonTest : public ::testing::Test {
 protected:
  Result<Documents> read(const std::string& path) {
    const auto source = open_source(path, DataFormat::kTokens);
    if (!source) return source.error();
    Documents documents;
    if (auto done = read_tokens(*source, documents); !done) return done.error();
    return documents;
  }
  std::string problem(const std::string& content) {
    const std::string text = error_of(read(folder_.write("data.json", content)));
    const std::string folder = folder_.path("");
    return text.starts_with(folder) ? text.substr(folder.size()) : text;
  }

  TestFolder folder_;
};

TEST_F(TokensJsonTest, ReadsRowsAndLabels) {
  const std::string path =
      folder_.write("d.json", R"({"labels": [[-100, 5], [7]], "input_ids": [[4, 5], [7]]})");
  EXPECT_EQ(open_source(path, {})->format, DataFormat::kTokens);
  const auto documents = read(path);
  ASSERT_TRUE(documents) << error_of(documents);
  EXPECT_EQ(documents->ids, (std::vector<std::int32_t>{4, 5, 7}));
  EXPECT_EQ(documents->labels, (std::vector<std::int32_t>{kNoLabel, 5, 7}));
  EXPECT_EQ(documents->ends, (std::vector<std::int64_t>{2, 3}));
}

TEST_F(TokensJsonTest, WithoutLabelsAllIsLearned) {
  const auto documents = read(folder_.write("d.json", R"({"input_ids": [[4, 5], [7]]})"));
  ASSERT_TRUE(documents) << error_of(documents);
  EXPECT_EQ(documents->labels, documents->ids);
}

TEST_F(TokensJsonTest, NamesWhatIsWrong) {
  EXPECT_EQ(problem(R"({"labels": [[1]]})"), "data.json: has no input_ids");
  EXPECT_EQ(problem(R"({"input_ids": []})"), "data.json: holds no rows: input_ids is empty");
  EXPECT_EQ(problem(R"({"input_ids": [1, 2]})"),
            "data.json record 1: got 1, expected a row of input_ids as a list");
  EXPECT_EQ(problem(R"({"input_ids": [[1], [2, "3"]]})"),
            "data.json record 2: got a string, expected an id in input_ids");
  EXPECT_EQ(problem(R"({"input_ids": [[1], [-1]]})"),
            "data.json record 2: got -1, expected an id in input_ids");
  EXPECT_EQ(problem(R"({"input_ids": [[1], [2.5]]})"),
            "data.json record 2: got 2.5, expected an id in input_ids");
  EXPECT_EQ(problem(R"({"input_ids": [[4294967296]]})"),
            "data.json record 1: got 4294967296, expected an id in input_ids");
  EXPECT_EQ(problem(R"({"input_ids": [[1]], "labels": [[-1]]})"),
            "data.json record 1: got -1, expected an id or -100 in labels");
  EXPECT_EQ(problem(R"({"input_ids": [[1], []]})"),
            "data.json record 2: input_ids is empty; leave the row out");
  EXPECT_EQ(problem(R"({"input_ids": [[1], [2]], "labels": [[1]]})"),
            "data.json: has 1 rows of labels for 2 rows of input_ids");
  EXPECT_EQ(problem(R"({"input_ids": [[1], [2]], "labels": [[1], [2, 3]]})"),
            "data.json record 2: has 2 labels for 1 input_ids");
  EXPECT_EQ(
      problem(R"({"input_ids": [[1]], "attention_mask": [[1]]})"),
      "data.json: got the key \"attention_mask\", expected the keys input_ids and labels, each "
      "with a list of rows");
  EXPECT_EQ(problem(R"({"input_ids": [[1]], "input_ids": [[1]]})"),
            "data.json: has the key \"input_ids\" twice");
  EXPECT_EQ(problem(R"([{"input_ids": [1]}])"),
            "data.json: got a list, expected an object with input_ids and labels");
  EXPECT_EQ(problem(R"({"input_ids": [[[1]]]})"),
            "data.json record 1: got a list, expected an id in input_ids");
}

TEST_F(TokensJsonTest, RefusesWhatIsCutOff) {
  const std::string whole = R"({"input_ids": [[1, 2], [3]], "labels": [[1, 2], [3]]})";
  EXPECT_EQ(problem(whole), "no error");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(problem(whole.substr(0, size)).substr(0, 9), "data.json") << size;
  }
  const std::string in_row_two = problem(whole.substr(0, 23));
  EXPECT_EQ(in_row_two.substr(0, 19), "data.json record 2:") << in_row_two;
}

TEST_F(TokensJsonTest, WrittenRowsComeBack) {
  const Documents documents = documents_of_lengths({3, 5, 2, 4}, /*unlearned=*/1);
  for (const Packing packing : {Packing::kNone, Packing::kConcat}) {
    const RowSet rows = pack(documents, all(4), {.seq = 6, .packing = packing}).rows;
    const std::string path = folder_.path("out.json");
    ASSERT_TRUE(write_tokens(rows, path));
    const auto back = read(path);
    ASSERT_TRUE(back) << error_of(back);
    EXPECT_EQ(pack(*back, all(back->count()), {.seq = 6, .keep_unlearned = true}).rows, rows);
  }
}

TEST_F(TokensJsonTest, IsolatedDocumentsAreWrittenApart) {
  const Documents documents = documents_of_lengths({3, 3, 4}, 1);
  const RowSet rows = pack(documents, all(3), {.seq = 6, .packing = Packing::kIsolated}).rows;
  ASSERT_EQ(rows.rows(), 2);
  const std::string path = folder_.path("out.json");
  ASSERT_TRUE(write_tokens(rows, path));
  const auto back = read(path);
  ASSERT_TRUE(back) << error_of(back);
  EXPECT_EQ(*back, documents);
}

TEST_F(TokensJsonTest, AFolderThatIsMissingIsNamed) {
  const auto written = write_tokens(RowSet{}, folder_.path("no/such/out.json"));
  ASSERT_FALSE(written);
  EXPECT_NE(written.error().text().find("out.json"), std::string::npos);
}

}  // namespace
}  // namespace ftplan::data

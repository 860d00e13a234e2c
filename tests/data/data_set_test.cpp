#include "data/data_set.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <ios>
#include <string>
#include <vector>

#include "core/data_options.h"
#include "core/json.h"
#include "core/result.h"
#include "data/description.h"
#include "data/document_cache.h"
#include "data/pad_token.h"
#include "data/rows.h"
#include "support.h"

namespace ftplan::data {
namespace {

std::string text_lines(int count) {
  std::string lines;
  for (int i = 0; i < count; ++i) lines += "{\"text\": \"" + std::to_string(i) + "\"}\n";
  return lines;
}

class LoadData : public ::testing::Test {
 protected:
  Result<DataSet> load(const DataOptions& options) { return load_data(options, context_); }

  TestFolder folder_;
  ByteTokenizer tokenizer_;
  DataContext context_{.tokenizer = &tokenizer_, .cache_folder = {}};
};

TEST_F(LoadData, TokensNeedNoTokenizer) {
  context_.tokenizer = nullptr;
  const std::string path = folder_.write("d.json", R"({"input_ids": [[1, 2, 3], [4]]})");
  const auto set = load({.data = {path}});
  ASSERT_TRUE(set) << error_of(set);
  // A row without a target stays: pre-tokenized rows stand as given.
  EXPECT_EQ(set->facts.rows, 2);
  EXPECT_EQ(set->facts.target_tokens, 2);
  const auto text = load({.data = {folder_.write("t.txt", "abc")}});
  EXPECT_NE(error_of(text).find("needs a tokenizer"), std::string::npos) << error_of(text);
}

TEST_F(LoadData, SeveralFilesFollowEachOther) {
  const std::string one = folder_.write("1.json", R"({"input_ids": [[1, 2], [3, 4]]})");
  const std::string two = folder_.write("2.json", R"({"input_ids": [[5, 6, 7]]})");
  const auto set = load({.data = {one, two}});
  ASSERT_TRUE(set) << error_of(set);
  EXPECT_EQ(set->training.ids, (std::vector<std::int32_t>{1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(set->training.ends, (std::vector<std::int64_t>{2, 4, 7}));
}

TEST_F(LoadData, NamesTheRecordWithAnIdThatTheModelDoesNotHave) {
  const std::string one = folder_.write("1.json", R"({"input_ids": [[1, 2], [3, 4]]})");
  const std::string two = folder_.write("2.json", R"({"input_ids": [[5], [6, 7]]})");
  context_.vocabulary = 7;
  const std::string problem = error_of(load({.data = {one, two}}));
  EXPECT_NE(problem.find("2.json record 2: token 1 has the id 7, but the model has 7 ids"),
            std::string::npos)
      << problem;
  context_.vocabulary = 8;
  EXPECT_TRUE(load({.data = {one, two}}));
}

TEST_F(LoadData, SeqIsLimitedByThePositions) {
  EXPECT_EQ(*resolve_seq({}, 0), 2048);
  EXPECT_EQ(*resolve_seq({}, 4096), 2048);
  EXPECT_EQ(*resolve_seq({}, 512), 512);
  EXPECT_EQ(*resolve_seq({.seq = 4096}, 4096), 4096);
  EXPECT_EQ(error_of(resolve_seq({.seq = 4097}, 4096)),
            "--seq: got 4097, but the model has 4096 positions: give at most that");
}

TEST_F(LoadData, CountsWhatIsCut) {
  const std::string path = folder_.write("t.jsonl", "{\"text\": \"abcdef\"}\n{\"text\": \"a\"}\n");
  const auto set = load({.data = {path}, .seq = 4});
  ASSERT_TRUE(set) << error_of(set);
  EXPECT_EQ(set->counts, (DataCounts{.documents = 2,
                                     .held_out = 0,
                                     .truncated = 1,
                                     .truncated_tokens = /*BOS+6+EOS-4=*/4,
                                     .dropped = 0}));
  EXPECT_EQ(set->facts.longest, 4);
}

TEST_F(LoadData, RefusesDataThatTeachesNothing) {
  const std::string path = folder_.write("a.jsonl", R"({"instruction": "a", "output": "b"})");
  const std::string problem = error_of(load({.data = {path}, .seq = 16}));
  EXPECT_NE(problem.find("leaves nothing to learn from: all 1 training documents have no label "
                         "within --seq 16"),
            std::string::npos)
      << problem;
  EXPECT_NE(error_of(load({.data = {folder_.write("e.json", "[]")}, .format = DataFormat::kAlpaca}))
                .find("holds no records"),
            std::string::npos);
}

TEST_F(LoadData, HoldsOutDocumentsByTheSeed) {
  const std::string path = folder_.write("t.jsonl", text_lines(100));
  const DataOptions options{.data = {path}, .validation = 0.04};
  const auto set = load(options);
  ASSERT_TRUE(set) << error_of(set);
  EXPECT_EQ(set->counts.held_out, 4);
  EXPECT_EQ(set->facts.validation_rows, 4);
  EXPECT_EQ(set->facts.rows, 96);
  EXPECT_EQ(load(options)->facts, set->facts);
  context_.seed = 1;
  EXPECT_NE(load(options)->facts.digest, set->facts.digest);
  // Together they are what there is without a split.
  const auto whole = load({.data = {path}});
  std::vector<std::int32_t> both = set->training.ids;
  both.insert(both.end(), set->validation.ids.begin(), set->validation.ids.end());
  std::vector<std::int32_t> expected = whole->training.ids;
  std::ranges::sort(both);
  std::ranges::sort(expected);
  EXPECT_EQ(both, expected);
}

TEST_F(LoadData, ASmallShareHoldsOutOneAndALargeOneLeavesOne) {
  const std::string path = folder_.write("t.jsonl", text_lines(3));
  EXPECT_EQ(load({.data = {path}, .validation = 0.01})->counts.held_out, 1);
  EXPECT_EQ(load({.data = {path}, .validation = 0.9})->counts.held_out, 2);
  const std::string single = folder_.write("s.jsonl", text_lines(1));
  EXPECT_EQ(load({.data = {single}, .validation = 0.5})->counts.held_out, 0);
}

TEST_F(LoadData, TokensAreReusedWhileNothingChanged) {
  context_.cache_folder = folder_.path("cache/ftplan");
  const std::string path = folder_.write("t.jsonl", text_lines(5));
  DataOptions options{.data = {path}};
  const auto first = load(options);
  ASSERT_TRUE(first) << error_of(first);
  EXPECT_FALSE(first->from_cache);

  const std::int64_t encoded = ByteTokenizer::encoded();
  const auto second = load(options);
  EXPECT_TRUE(second->from_cache);
  EXPECT_EQ(ByteTokenizer::encoded(), encoded);
  EXPECT_EQ(second->training, first->training);
  // Packing happens after it, so that another one is reused too.
  options.packing = Packing::kIsolated;
  EXPECT_TRUE(load(options)->from_cache);

  options.train_on_prompt = true;
  EXPECT_FALSE(load(options)->from_cache);
  const ByteTokenizer other("other");
  context_.tokenizer = &other;
  EXPECT_FALSE(load(options)->from_cache);
}

TEST_F(LoadData, AnEditedFileIsReadAgain) {
  context_.cache_folder = folder_.path("cache");
  const std::string path = folder_.write("t.jsonl", "{\"text\": \"a\"}");
  ASSERT_FALSE(load({.data = {path}})->from_cache);
  const auto time = std::filesystem::last_write_time(path);
  // Same size, same time, one other letter.
  static_cast<void>(folder_.write("t.jsonl", "{\"text\": \"b\"}"));
  std::filesystem::last_write_time(path, time);
  const auto set = load({.data = {path}});
  EXPECT_FALSE(set->from_cache);
  EXPECT_EQ(set->training.ids, ids_of_text("b"));
  // Touched or copied, it is the same data.
  std::filesystem::last_write_time(path, time + std::chrono::hours(1));
  EXPECT_TRUE(load({.data = {path}})->from_cache);
}

TEST_F(LoadData, ADamagedCacheIsIgnoredAndReplaced) {
  context_.cache_folder = folder_.path("cache");
  const std::string path = folder_.write("t.jsonl", text_lines(5));
  const auto first = load({.data = {path}});
  const auto files = std::filesystem::directory_iterator(context_.cache_folder);
  const std::string stored = files->path().string();
  const std::string good = read_file(stored);
  for (std::size_t at = 0; at < good.size(); at += 5) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x40);
    std::ofstream(stored, std::ios::binary) << bad;
    const auto again = load({.data = {path}});
    EXPECT_FALSE(again->from_cache) << at;
    EXPECT_EQ(again->training, first->training);
    EXPECT_EQ(read_file(stored), good);
    std::ofstream(stored, std::ios::binary) << good.substr(0, at);
    EXPECT_FALSE(load({.data = {path}})->from_cache) << at;
  }
}

TEST_F(LoadData, ACacheThatCannotBeWrittenIsNoError) {
  // A file stands where the folder should be; permissions would not stop root.
  context_.cache_folder = folder_.write("cache", "in the way");
  const std::string path = folder_.write("t.jsonl", text_lines(5));
  for (int i = 0; i < 2; ++i) {
    const auto set = load({.data = {path}});
    ASSERT_TRUE(set) << error_of(set);
    EXPECT_FALSE(set->from_cache);
  }
}

// Stands for a full disk: no file may grow beyond 100 bytes while it lives.
class SmallFiles {
 public:
  SmallFiles() {
    getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    rlimit small = before_;
    small.rlim_cur = 100;
    setrlimit(RLIMIT_FSIZE, &small);
  }
  ~SmallFiles() {
    setrlimit(RLIMIT_FSIZE, &before_);
    static_cast<void>(std::signal(SIGXFSZ, handler_));
  }
  SmallFiles(const SmallFiles&) = delete;
  SmallFiles& operator=(const SmallFiles&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int) = SIG_DFL;
};

TEST_F(LoadData, AFullDiskIsNoErrorAndLeavesNothingBehind) {
  context_.cache_folder = folder_.path("cache");
  const std::string path = folder_.write("t.jsonl", text_lines(50));
  {
    const SmallFiles small;
    const auto set = load({.data = {path}});
    ASSERT_TRUE(set) << error_of(set);
  }
  EXPECT_TRUE(std::filesystem::is_empty(context_.cache_folder));
  EXPECT_FALSE(load({.data = {path}})->from_cache);
  EXPECT_TRUE(load({.data = {path}})->from_cache);
}

TEST_F(LoadData, IsDescribedWithItsLabels) {
  const std::string path = folder_.write(
      "a.json",
      R"([{"instruction": "Say hi", "output": "hi"}, {"instruction": "", "output": ""}])");
  const DataOptions options{.data = {path}, .seq = 512, .packing = Packing::kIsolated};
  const auto set = load(options);
  ASSERT_TRUE(set) << error_of(set);
  const DataDescription description = describe(*set, options.packing, &tokenizer_, 9);
  ASSERT_EQ(description.samples.size(), 1);
  const Sample& sample = description.samples.front();
  ASSERT_EQ(sample.parts.size(), 4);
  EXPECT_FALSE(sample.parts[0].learned);
  EXPECT_EQ(sample.parts[0].text.substr(0, 8), "<s>Below");
  EXPECT_TRUE(sample.parts[1].learned);
  EXPECT_EQ(sample.parts[1].text, "hi</s>");
  EXPECT_EQ(sample.parts[3].text, "</s>");
  EXPECT_EQ(sample.target_tokens, 3 + 1);
  EXPECT_DOUBLE_EQ(description.documents_per_row, 2);
  const std::int64_t tokens = set->training.tokens();
  const std::int64_t positions = padded(tokens, 64);
  EXPECT_DOUBLE_EQ(description.efficiency,
                   static_cast<double>(tokens) / static_cast<double>(positions));

  const Json json = to_json(description);
  EXPECT_EQ(json["facts"]["rows"], 1);
  EXPECT_EQ(json["samples"][0]["parts"][1]["text"], "hi</s>");
  const std::string page = render(description);
  EXPECT_NE(page.find("  > hi</s>\n"), std::string::npos) << page;
  EXPECT_NE(page.find("2 (alpaca), 0 held out"), std::string::npos) << page;
}

TEST_F(LoadData, PadsAsTheTokenizerSays) {
  const std::string path = folder_.write("1.jsonl", text_lines(3));
  const auto padding = [&](const Tokenizer* tokenizer, std::int64_t vocabulary) {
    context_.tokenizer = tokenizer;
    context_.vocabulary = vocabulary;
    const auto set = load({.data = {path}});
    EXPECT_TRUE(set) << error_of(set);
    EXPECT_EQ(set->training.pad, set->pad.id);
    EXPECT_EQ(set->validation.pad, set->pad.id);
    const std::string page = render(describe(*set, Packing::kNone, tokenizer, 0));
    const std::size_t begin = page.find("padding     ") + 12;
    return page.substr(begin, page.find(';', begin) - begin);
  };
  const ByteTokenizer named("bytes", /*has_eos=*/true, /*pad=*/'p');
  EXPECT_EQ(padding(&named, 300), "\"p\" (id 112), the tokenizer's pad token");
  EXPECT_EQ(padding(&tokenizer_, 300),
            "\"</s>\" (id 257), the end of a text, as the tokenizer names no pad token");
  const ByteTokenizer outside("bytes", /*has_eos=*/true, /*pad=*/300);
  EXPECT_EQ(padding(&outside, 300),
            "\"</s>\" (id 257), the end of a text, as the model has no row for the pad token");
  const ByteTokenizer endless("bytes", /*has_eos=*/false);
  EXPECT_EQ(find_pad_token(&endless, 300), PadToken{});
  EXPECT_EQ(find_pad_token(nullptr, 300), PadToken{});
}

TEST_F(LoadData, CountsAndWeighsEachFile) {
  const std::string one = folder_.write("1.jsonl", text_lines(6));
  const std::string two = folder_.write("2.jsonl", text_lines(4));
  const auto set = load({.data = {one, two}, .weights = {2, 0.5}});
  ASSERT_TRUE(set) << error_of(set);
  ASSERT_EQ(set->sources.size(), 2);
  // Each text is one digit between BOS and EOS; all but BOS are learned.
  const SourceCounts first{.path = one,
                           .weight = 2,
                           .documents = 6,
                           .rows = 6,
                           .drawn_rows = 12,
                           .tokens = 6 * 3,
                           .target_tokens = 6 * 2};
  EXPECT_EQ(set->sources[0], first);
  EXPECT_EQ(set->sources[1].drawn_rows, 2);
  EXPECT_EQ(set->facts.rows, 10);
  EXPECT_EQ(set->facts.epoch_rows(), 14);
  const std::string page = render(describe(*set, Packing::kNone, &tokenizer_, 0));
  EXPECT_NE(page.find("files       6 documents, 0 held out; 6 rows, 18 tokens, 12 learned; 2 x: 12 "
                      "rows an epoch  " +
                      one + "\n"),
            std::string::npos)
      << page;
  EXPECT_NE(page.find("epoch       14 rows\n"), std::string::npos) << page;
  // The tokens are the same, so weights change neither them nor the cache.
  const auto plain = load({.data = {one, two}});
  EXPECT_EQ(plain->facts.digest, set->facts.digest);
  EXPECT_EQ(plain->facts.epoch_rows(), 10);
  EXPECT_TRUE(plain->drawn.empty());
}

TEST_F(LoadData, WantsAWeightForEachFile) {
  const std::string one = folder_.write("1.jsonl", text_lines(6));
  EXPECT_EQ(error_of(load({.data = {one, one}, .weights = {2}})),
            "--weights: got 1 for 2 files of --data: give one for each");
}

TEST_F(LoadData, NoRowHoldsDocumentsOfTwoFiles) {
  const std::string one = folder_.write("1.json", R"({"input_ids": [[1, 2], [3, 4, 5]]})");
  const std::string two = folder_.write("2.json", R"({"input_ids": [[6], [7]]})");
  for (const Packing packing : {Packing::kIsolated, Packing::kConcat}) {
    const auto set = load({.data = {one, two}, .packing = packing});
    ASSERT_TRUE(set) << error_of(set);
    EXPECT_EQ(set->training.ends, (std::vector<std::int64_t>{5, 7}));
  }
}

}  // namespace
}  // namespace ftplan::data

#include "executor/metrics.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "core/json.h"
#include "core/run_result.h"

namespace ftplan::executor {
namespace {

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

class Metrics : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "ftplan_metrics";
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  [[nodiscard]] std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::string folder_;
};

// Lengths, the masked CRC-32C of a length, and protobuf as TensorFlow's own writer lays it out.
TEST_F(Metrics, EventsAreRecordsOfTensorBoard) {
  auto file = EventFile::create(folder_, 4, 1.5);
  ASSERT_TRUE(file.ok()) << file.error().text();
  ASSERT_TRUE(file->write(5, 2.0, {{"loss", 0.25}}).ok());
  using namespace std::string_literals;
  const std::string time = "\x09\0\0\0\0\0\0\xF8\x3F"s;
  const std::string version = time + "\x10\0\x1A\x0D"s + "brain.Event:2";
  const std::string session = time + "\x10\x05\x3A\x02\x08\x01"s;
  const std::string scalar =
      "\x09\0\0\0\0\0\0\0\x40\x10\x05\x2A\x0D\x0A\x0B\x0A\x04loss\x15\0\0\x80\x3E"s;
  const std::string all = content(path("events.out.tfevents.1.ftplan"));
  std::size_t at = 0;
  for (const std::string& event : {version, session, scalar}) {
    ASSERT_LE(at + 16 + event.size(), all.size());
    EXPECT_EQ(static_cast<std::size_t>(static_cast<unsigned char>(all[at])), event.size());
    EXPECT_EQ(all.substr(at + 12, event.size()), event);
    at += 16 + event.size();
  }
  EXPECT_EQ(at, all.size());
  // Of eight bytes that say 26, by the table of RFC 3720 and TensorFlow's mask.
  EXPECT_EQ(all.substr(8, 4), std::string("\x12\x9B\xD8\x2D", 4));
}

TEST_F(Metrics, LinesAfterTheStepAreDroppedAndASecondProcessHasItsOwnEvents) {
  for (const std::int64_t from : {std::int64_t{0}, std::int64_t{1}}) {
    auto files = MetricsFiles::open(folder_, from);
    ASSERT_TRUE(files.ok()) << files.error().text();
    ASSERT_TRUE(files->write({.step = 1 + from, .loss = 2.0}).ok());
    ASSERT_TRUE(files->write({.step = 2 + from, .validation_loss = 1.0}).ok());
  }
  EXPECT_EQ(content(path("metrics.jsonl")),
            "{\"step\":1,\"loss\":2.0}\n{\"step\":2,\"loss\":2.0}\n{\"step\":3,\"validation_loss\":"
            "1.0}\n");
  int events = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_))
    events += entry.path().filename().string().starts_with("events.out.tfevents.") ? 1 : 0;
  EXPECT_EQ(events, 2);
}

}  // namespace
}  // namespace ftplan::executor

#include "models/output_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/units.h"
#include "models/files.h"
#include "tests/models/support.h"

namespace ftplan::models {
namespace {

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(OutputFile, KeepsTheOldFileUntilItIsCommitted) {
  const TempFolder temp;
  put(temp / "f", "old");
  auto file = OutputFile::create(temp / "f", Bytes{5});
  ASSERT_EQ(error_text(file), "ok");
  ASSERT_EQ(error_text(file->write_at(Bytes{0}, bytes("fresh"))), "ok");
  EXPECT_EQ(get(temp / "f"), "old");
  ASSERT_EQ(error_text(file->commit()), "ok");
  EXPECT_EQ(get(temp / "f"), "fresh");
  EXPECT_EQ(temp.names(), std::vector<std::string>{"f"});
}

TEST(OutputFile, WritesOverWhatAKilledProcessLeft) {
  const TempFolder temp;
  put(temp / "f.partial", "much longer than the file");
  ASSERT_EQ(error_text(write_text_file(temp / "f", "new")), "ok");
  EXPECT_EQ(get(temp / "f"), "new");
  EXPECT_EQ(temp.names(), std::vector<std::string>{"f"});
}

TEST(OutputFile, TwoWritersOfOneFileAreRefused) {
  const TempFolder temp;
  const auto first = OutputFile::create(temp / "f", Bytes{1});
  ASSERT_EQ(error_text(first), "ok");
  EXPECT_EQ(error_text(OutputFile::create(temp / "f", Bytes{1}), temp.path()),
            "f: another process is writing it");
}

TEST(OutputFile, NamesTheFolderThatIsMissing) {
  const TempFolder temp;
  EXPECT_EQ(error_text(OutputFile::create(temp / "no/f", Bytes{1}), temp.path()),
            "no/f: cannot be written: No such file or directory");
}

// A quota stands for all limits that free space does not show.
TEST(OutputFile, AFileLimitFailsTheRunAndLeavesNothing) {
  const TempFolder temp;
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 1000;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto file = OutputFile::create(temp / "f", Bytes{4096});
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(error_text(file, temp.path()), "f: cannot be written: File too large, 4.0 KiB missing");
  EXPECT_EQ(file.error().code, ErrorCode::kRunFailed);
  EXPECT_TRUE(temp.names().empty());
}

TEST(Files, ANameMayNotLeaveItsFolder) {
  for (const char* name : {"a", "a/b", "a..b", "./a"}) EXPECT_TRUE(stays_inside(name)) << name;
  for (const char* name : {"", "/a", "..", "../a", "a/../../b"})
    EXPECT_FALSE(stays_inside(name)) << name;
}

TEST(Files, AQuotedNameStaysOnOneLine) {
  EXPECT_EQ(in_quotes("a\nb\x01\""), R"("a\nb\u0001\"")");
  EXPECT_LT(in_quotes(std::string(100000, 'x')).size(), 200U);
}

}  // namespace
}  // namespace ftplan::models

#include "executor/verdict.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "core/result.h"

namespace ftplan::executor {
namespace {

constexpr auto kRunFailed = static_cast<std::int64_t>(ErrorCode::kRunFailed);

class MapTable final : public SharedTable {
 public:
  void set(const std::string& key, const std::string& value) override { at(key) = value; }
  std::optional<std::string> find(const std::string& key) override {
    check();
    const auto found = entries_.find(key);
    return found == entries_.end() ? std::nullopt : std::optional(found->second);
  }
  std::string put_if_absent(const std::string& key, const std::string& value) override {
    check();
    return entries_.emplace(key, value).first->second;
  }
  void lose() { lost_ = true; }

 private:
  void check() const {
    if (lost_) throw TableLost();
  }
  std::string& at(const std::string& key) {
    check();
    return entries_[key];
  }
  std::map<std::string, std::string> entries_;
  bool lost_ = false;
};

Failure own_error(std::int64_t rank) {
  return {.rank = rank, .code = kRunFailed, .where = "out", .message = "the disk is full"};
}
Failure lost(std::int64_t rank, std::int64_t peer, bool silent) {
  return {.rank = rank,
          .code = kRunFailed,
          .message = silent ? "sent nothing" : "has ended",
          .lost = peer,
          .silent = silent};
}

std::optional<std::int64_t> guilty(const Failure& own, const std::map<std::int64_t, Failure>& posts,
                                   double waited) {
  const auto found = find_guilty(
      own,
      [&](std::int64_t rank) {
        const auto post = posts.find(rank);
        return post == posts.end() ? std::nullopt : std::optional(post->second);
      },
      waited);
  return found ? std::optional(found->rank) : std::nullopt;
}

TEST(Verdict, IsWhoeverFailedByItself) {
  EXPECT_EQ(guilty(own_error(1), {}, 0), 1);
  EXPECT_EQ(guilty(lost(0, 1, false), {{1, own_error(1)}}, 0), 1);
}

TEST(Verdict, FollowsWhoLostWhom) {
  // Rank 2 was killed; 1 saw it, ended, and so 0 lost 1.
  EXPECT_EQ(guilty(lost(0, 1, false), {{1, lost(1, 2, false)}}, 1), 2);
}

TEST(Verdict, WaitsForWhatOthersHaveToSay) {
  EXPECT_EQ(guilty(lost(0, 1, true), {}, 0), std::nullopt);
  EXPECT_EQ(guilty(lost(0, 1, true), {}, 1), 1);
  EXPECT_EQ(guilty(lost(0, 1, true), {{1, lost(1, 2, true)}}, 1), 2);
  // Who closes its connections has spoken before.
  EXPECT_EQ(guilty(lost(0, 1, false), {}, 0), std::nullopt);
  EXPECT_EQ(guilty(lost(0, 1, false), {}, 0.5), 1);
  EXPECT_EQ(guilty(lost(0, 1, true), {}, 0.5), std::nullopt);
}

TEST(Verdict, OfARoundOfBlameIsWhoWasSilent) {
  // 3 was slow; 0 gave up on it and ended, so that 3 lost 0.
  EXPECT_EQ(guilty(lost(3, 0, false), {{0, lost(0, 3, true)}}, 1), 3);
  EXPECT_EQ(guilty(lost(0, 3, true), {{3, lost(3, 0, false)}}, 1), 3);
}

TEST(Settling, AllRanksAgree) {
  MapTable table;
  const Failure second = settle(table, own_error(1), {});
  const Failure first = settle(table, lost(0, 1, false), {});
  EXPECT_EQ(first, second);
  EXPECT_EQ(error_for(0, first).text(), "rank 1: out: the disk is full");
  EXPECT_EQ(error_for(1, second).text(), "out: the disk is full");
  ASSERT_TRUE(failure_of_others(table, 0, 2).has_value());
  EXPECT_EQ(failure_of_others(table, 0, 2)->rank, 1);
}

TEST(Settling, TellsBeforeItCloses) {
  MapTable table;
  bool told = false;
  (void)settle(table, own_error(1),
               {.close = [&] { told = failure_of_others(table, 0, 2).has_value(); }});
  EXPECT_TRUE(told);
}

TEST(Settling, BlamesARankThatSaysNothingInTheGrace) {
  MapTable table;
  const Failure verdict = settle(table, lost(0, 1, true), {.grace = std::chrono::milliseconds(30)});
  EXPECT_EQ(verdict.rank, 1);
  EXPECT_EQ(verdict.lost, 1);  // gone without a word
  EXPECT_EQ(error_for(0, verdict).text(), "rank 1: sent nothing");
}

TEST(Settling, BlamesWhoHeldTheTableWhenThatIsLostToo) {
  MapTable table;
  table.lose();
  EXPECT_EQ(settle(table, lost(2, 1, false), {.table_rank = 0}).rank, 0);
  // An error of its own stays what it is.
  EXPECT_EQ(settle(table, own_error(2), {.table_rank = 0}).rank, 2);
}

}  // namespace
}  // namespace ftplan::executor

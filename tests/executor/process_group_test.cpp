#include "executor/process_group.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/result.h"
#include "executor/torch_group.h"
#include "tests/executor/support.h"
#include "tools/network.h"

// Ranks over TCP: here as threads of one process, in tests/e2e as processes.

namespace ftplan::executor {
namespace {

using std::chrono::milliseconds;

class Loopback {
 public:
  explicit Loopback(int ranks, milliseconds step_timeout = milliseconds(20'000))
      : ranks_(ranks), step_timeout_(step_timeout) {
    socket_ = need(tools::bind_socket("127.0.0.1", 0));
  }

  [[nodiscard]] Membership membership(int rank) const {
    Membership membership{.rank = rank,
                          .ranks = ranks_,
                          .port = socket_.port,
                          .table_rank = 0,
                          .join_timeout = join_timeout,
                          .step_timeout = step_timeout_};
    if (rank == 0) membership.listening = socket_.descriptor;
    return membership;
  }
  [[nodiscard]] Result<std::unique_ptr<ProcessGroup>> join(int rank,
                                                           const std::string& plan = "plan") const {
    return ProcessGroup::join(membership(rank), plan, nullptr);
  }

  /// Each rank on a thread of its own.
  void run(const std::function<void(int rank)>& work) const {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks_; ++rank) threads.emplace_back(work, rank);
    for (std::thread& thread : threads) thread.join();
  }

  milliseconds join_timeout{20'000};

 private:
  int ranks_;
  milliseconds step_timeout_;
  tools::BoundSocket socket_;
};

TEST(ProcessGroup, GathersNumbersTextsAndBytes) {
  const Loopback ranks(3);
  ranks.run([&](int rank) {
    const auto group = need(ranks.join(rank));
    const std::vector<double> own = {rank + 0.5, -1.0};
    EXPECT_EQ(need(group->gather(own)), (std::vector{0.5, -1.0, 1.5, -1.0, 2.5, -1.0}));
    EXPECT_EQ(need(group->gather(std::string(static_cast<std::size_t>(rank), 'x'))),
              (std::vector<std::string>{"", "x", "xx"}));
    std::vector<std::byte> parts(6);
    parts[static_cast<std::size_t>(rank) * 2] = static_cast<std::byte>(rank + 1);
    need(group->gather_parts(parts));
    EXPECT_EQ(parts, (std::vector{std::byte{1}, std::byte{}, std::byte{2}, std::byte{},
                                  std::byte{3}, std::byte{}}));
    need(group->meet());
    group->leave();
  });
}

// Owns the group that its communicator is of.
class GroupCommunicator final : public Communicator {
 public:
  explicit GroupCommunicator(std::unique_ptr<ProcessGroup> group) : group_(std::move(group)) {}
  ~GroupCommunicator() override { group_->leave(); }
  void run(const Call& call) override { group_->communicator().run(call); }

 private:
  std::unique_ptr<ProcessGroup> group_;
};

class OverTcp : public testing::TestWithParam<Setting> {};
INSTANTIATE_TEST_SUITE_P(
    Settings, OverTcp,
    testing::Values(Setting{.ranks = 2},
                    Setting{.method = Method::kLora, .precision = Precision::kBf16, .ranks = 2},
                    Setting{.precision = Precision::kFp16, .ranks = 2, .loss_scale = 1024},
                    Setting{.ranks = 2, .accumulation = 2}));

// The sum of two is the same in either order.
TEST_P(OverTcp, TwoRanksTrainBitByBitAsInOneProcess) {
  const World world(GetParam());
  constexpr std::int64_t kSteps = 2;
  const Loopback ranks(2);
  const Trained apart = train_ranks(world, kSteps, [&](std::int64_t rank) {
    return std::make_unique<GroupCommunicator>(need(ranks.join(static_cast<int>(rank))));
  });
  const Trained together = train_ranks(world, kSteps);
  EXPECT_TRUE(apart.ranks_agree);
  EXPECT_EQ(apart.losses, together.losses);
  EXPECT_EQ(apart.norms, together.norms);
  EXPECT_EQ(apart.values, together.values);
}

TEST(ProcessGroup, NamesRanksThatDoNotJoinInTime) {
  Loopback ranks(3);
  ranks.join_timeout = milliseconds(150);
  const auto alone = ranks.join(0);
  ASSERT_FALSE(alone.ok());
  EXPECT_EQ(alone.error().code, ErrorCode::kRunFailed);
  EXPECT_EQ(alone.error().text(),
            "ranks 1, 2: did not join within 0.15 s: see that all are started, or raise "
            "--join-timeout");
}

TEST(ProcessGroup, SaysThatNobodyIsMet) {
  Membership membership{.rank = 1, .ranks = 2, .port = 1, .join_timeout = milliseconds(100)};
  const auto alone = ProcessGroup::join(membership, "plan", nullptr);
  ASSERT_FALSE(alone.ok());
  EXPECT_EQ(alone.error().code, ErrorCode::kRunFailed);
  EXPECT_EQ(alone.error().where, "127.0.0.1:1");
}

TEST(ProcessGroup, StopsWaitingForRanksWhenItIsAskedTo) {
  const Loopback ranks(2);
  const std::atomic<bool> stop{true};
  const auto alone = ProcessGroup::join(ranks.membership(0), "plan", &stop);
  ASSERT_FALSE(alone.ok());
  EXPECT_EQ(alone.error().code, ErrorCode::kInterrupted);
}

TEST(ProcessGroup, RefusesRanksOfDifferentPlans) {
  const Loopback ranks(2);
  ranks.run([&](int rank) {
    const auto joined = ranks.join(rank, rank == 0 ? "one" : "other");
    ASSERT_FALSE(joined.ok());
    EXPECT_EQ(joined.error().code, ErrorCode::kBadInput);
    EXPECT_NE(joined.error().text().find("runs another plan"), std::string::npos)
        << joined.error().text();
  });
}

TEST(ProcessGroup, TellsAllOfTheErrorOfOne) {
  const Loopback ranks(3);
  ranks.run([&](int rank) {
    const auto group = need(ranks.join(rank));
    const auto done =
        rank == 1 ? Result<void>(run_failed("out", "the disk is full")) : group->meet();
    ASSERT_FALSE(done.ok());
    const Error error = group->settle(done.error());
    EXPECT_EQ(error.code, ErrorCode::kRunFailed);
    EXPECT_EQ(error.text(), rank == 1 ? "out: the disk is full" : "rank 1: out: the disk is full");
  });
}

TEST(ProcessGroup, NamesTheRankThatSaysNothing) {
  const Loopback ranks(3, milliseconds(200));
  std::atomic<int> left{0};
  ranks.run([&](int rank) {
    const auto group = need(ranks.join(rank));
    need(group->meet());
    group->begin_steps();
    if (rank == 2) {
      while (left < 2) std::this_thread::sleep_for(milliseconds(5));
      return;
    }
    const auto done = group->meet();
    ASSERT_FALSE(done.ok());
    EXPECT_EQ(group->settle(done.error()).text(), "rank 2: sent nothing for 0.2 s");
    ++left;
  });
}

}  // namespace
}  // namespace ftplan::executor

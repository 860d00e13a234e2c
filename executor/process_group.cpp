#include "executor/process_group.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/result.h"
#include "core/text.h"
#include "executor/ring.h"
#include "executor/torch_group.h"
#include "executor/transport.h"
#include "executor/verdict.h"

namespace ftplan::executor {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kPause{20};
// For how long the table outlasts its rank at most, so that others hear how the run ended.
constexpr milliseconds kOutlast{30'000};

std::string joined_key(int rank) { return "joined/" + std::to_string(rank); }
std::string left_key(int rank) { return "left/" + std::to_string(rank); }

std::string names_of(const std::vector<int>& ranks) {
  std::vector<std::string> numbers;
  for (const int rank : ranks) numbers.push_back(std::to_string(rank));
  return (ranks.size() == 1 ? "rank " : "ranks ") + join(numbers, ", ");
}

template <class Work>
Result<void> or_lost(Work work) {
  try {
    work();
  } catch (const PeerLost& lost) {
    return lost.error();
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<ProcessGroup>> ProcessGroup::join(const Membership& membership,
                                                         const std::string& plan_digest,
                                                         const std::atomic<bool>* stop) {
  const auto end = Clock::now() + membership.join_timeout;
  auto opened = TorchGroup::open(membership, stop);
  if (!opened) return opened.error();
  std::unique_ptr<ProcessGroup> group(new ProcessGroup(membership, *std::move(opened), stop));
  if (auto ok = group->wait_for_all(plan_digest); !ok) return group->settle(ok.error());
  const auto left = std::chrono::duration_cast<milliseconds>(end - Clock::now());
  if (auto ok = group->group_->connect(std::max(left, milliseconds{1'000})); !ok)
    return group->settle(ok.error());
  group->group_->set_timeout(membership.join_timeout);
  group->communicator_ = std::make_unique<RingCommunicator>(group->group_->transport());
  return group;
}

Result<void> ProcessGroup::wait_for_all(const std::string& plan_digest) {
  const auto end = Clock::now() + membership_.join_timeout;
  try {
    SharedTable& table = group_->table();
    table.set(joined_key(rank()), plan_digest);
    std::vector<int> missing;
    for (int other = 0; other < ranks(); ++other) missing.push_back(other);
    while (true) {
      std::optional<Error> other_plan;
      std::erase_if(missing, [&](int other) {
        const auto found = table.find(joined_key(other));
        if (found && *found != plan_digest) {
          other_plan = bad_input(rank_name(other), "runs another plan than " + rank_name(rank()) +
                                                       ": give all ranks the same plan.json");
        }
        return found.has_value();
      });
      if (other_plan) return *other_plan;
      if (missing.empty()) return {};
      if (const auto failed = failure_of_others(table, rank(), ranks())) {
        told_ = true;
        return error_for(rank(), *failed);
      }
      if (stop_ != nullptr && *stop_)
        return Error{ErrorCode::kInterrupted, "interrupted", "before all ranks had joined"};
      if (Clock::now() >= end) {
        return run_failed(
            names_of(missing),
            "did not join within " +
                format_number(std::chrono::duration<double>(membership_.join_timeout).count()) +
                " s: see that all are started, or raise --join-timeout");
      }
      std::this_thread::sleep_for(kPause);
    }
  } catch (const TableLost&) {
    return run_failed(membership_.table_rank ? rank_name(*membership_.table_rank) : "the launcher",
                      "its connection was lost before all ranks had joined");
  }
}

Result<std::vector<double>> ProcessGroup::gather(std::span<const double> own) {
  const std::size_t count = own.size();
  std::vector<double> all(count * static_cast<std::size_t>(ranks()));
  std::copy(own.begin(), own.end(),
            all.begin() + static_cast<std::ptrdiff_t>(count * static_cast<std::size_t>(rank())));
  auto ok = or_lost([&] {
    ring_all_gather(group_->transport(), std::as_writable_bytes(std::span(all)),
                    static_cast<std::int64_t>(count * sizeof(double)));
  });
  if (!ok) return ok.error();
  return all;
}

Result<std::vector<std::string>> ProcessGroup::gather(const std::string& own) {
  const auto size = static_cast<double>(own.size());
  const auto sizes = gather({&size, 1});
  if (!sizes) return sizes.error();
  const auto part = static_cast<std::size_t>(*std::max_element(sizes->begin(), sizes->end()));
  std::string all(part * static_cast<std::size_t>(ranks()), '\0');
  std::memcpy(all.data() + part * static_cast<std::size_t>(rank()), own.data(), own.size());
  auto ok = gather_parts(std::as_writable_bytes(std::span(all)));
  if (!ok) return ok.error();
  std::vector<std::string> texts;
  for (std::size_t r = 0; r < sizes->size(); ++r)
    texts.push_back(all.substr(r * part, static_cast<std::size_t>((*sizes)[r])));
  return texts;
}

Result<void> ProcessGroup::gather_parts(std::span<std::byte> whole) {
  return or_lost([&] {
    ring_all_gather(group_->transport(), whole, static_cast<std::int64_t>(whole.size()) / ranks());
  });
}

Result<void> ProcessGroup::meet() {
  const double nothing = 0;
  const auto all = gather({&nothing, 1});
  if (!all) return all.error();
  return {};
}

Error ProcessGroup::settle(const Error& error) {
  const auto lost = group_->lost();
  if (told_) {
    outlast_others();
    return error;
  }
  Failure failure{.rank = rank(),
                  .code = static_cast<std::int64_t>(error.code),
                  .where = error.where,
                  .message = error.message};
  if (lost && error.where == rank_name(lost->rank())) {
    failure.where.clear();
    failure.lost = lost->rank();
    failure.silent = lost->silent();
  }
  Settling settling{.close = [this] { group_->close(); }};
  if (membership_.table_rank) settling.table_rank = *membership_.table_rank;
  communicator_.reset();
  const Failure guilty = executor::settle(group_->table(), failure, settling);
  const bool gone = guilty.lost == guilty.rank;
  outlast_others(gone ? guilty.lost : std::nullopt);
  // Where nobody could be asked, the peer that was lost is named.
  return guilty.rank == rank() && guilty.lost ? error : error_for(rank(), guilty);
}

void ProcessGroup::leave() {
  communicator_.reset();
  group_->close();
  outlast_others();
}

void ProcessGroup::outlast_others(std::optional<std::int64_t> gone) {
  try {
    SharedTable& table = group_->table();
    table.set(left_key(rank()), "");
    if (!membership_.listening) return;
    const auto end = Clock::now() + kOutlast;
    for (int other = 0; other < ranks(); ++other) {
      // Who never came does not leave either.
      if (gone == other || !table.find(joined_key(other))) continue;
      while (Clock::now() < end && !(stop_ != nullptr && *stop_) && !table.find(left_key(other)))
        std::this_thread::sleep_for(kPause);
    }
  } catch (const TableLost&) {
    return;  // who held it has gone: nobody is waited for
  }
}

}  // namespace ftplan::executor

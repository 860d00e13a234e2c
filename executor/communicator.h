#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "executor/call.h"
#include "program/op.h"

/// How ranks exchange values.
namespace ftplan::executor {

class Communicator {
 public:
  Communicator() = default;
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  /// One rank's part of a collective; returns when its result is there.
  virtual void run(const Call& call) = 0;
};

/// Ranks in one process. Values are added in f32, f64 in f64, in the order of ranks.
class InProcessGroup {
 public:
  explicit InProcessGroup(int ranks) : arrived_(static_cast<std::size_t>(ranks), nullptr) {}

  /// Blocks until every rank has come, or for a transfer its peer.
  /// @pre all ranks bring the same collective
  void run(int rank, const Call& call);

  /// For those who run all ranks on one thread: the last to arrive does the work of all. True when
  /// it is done.
  bool arrive(int rank, const Call& call);
  /// Whether what the rank has brought is not done yet.
  [[nodiscard]] bool waits(int rank) const { return at(rank) != nullptr; }

 private:
  void compute() const;
  bool meet(int rank, const Call& call);
  [[nodiscard]] const Call* at(int rank) const { return arrived_[static_cast<std::size_t>(rank)]; }

  std::mutex mutex_;
  std::condition_variable done_;
  std::vector<const Call*> arrived_;
  std::size_t count_ = 0;  // of them that are not null
};

class InProcessCommunicator final : public Communicator {
 public:
  InProcessCommunicator(InProcessGroup& group, int rank) : group_(group), rank_(rank) {}
  void run(const Call& call) override { group_.run(rank_, call); }

 private:
  InProcessGroup& group_;
  int rank_;
};

}  // namespace ftplan::executor

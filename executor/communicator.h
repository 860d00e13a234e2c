#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "executor/call.h"
#include "program/step_program.h"

/// How ranks exchange values.
namespace ftplan::executor {

class Communicator {
 public:
  Communicator() = default;
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  /// One rank's part of a collective; returns when its result is there. Streams call it beside each
  /// other: each has its own order of collectives.
  virtual void run(const Call& call) = 0;
  /// Ends a `run` that waits on another thread, where there is something to wait for.
  virtual void abort() {}
};

/// Ranks in one process. Values are added in f32, f64 in f64, in the order of ranks. The streams of
/// a program meet apart from each other.
class InProcessGroup {
 public:
  explicit InProcessGroup(int ranks) {
    for (Room& room : rooms_) room.arrived.assign(static_cast<std::size_t>(ranks), nullptr);
  }

  /// Blocks until every rank has come, or for a transfer its peer.
  /// @pre all ranks bring the same collective of each stream
  void run(int rank, const Call& call);

  /// For those who run all ranks on one thread: the last to arrive does the work of all. True when
  /// it is done.
  bool arrive(int rank, const Call& call);
  /// Whether what the rank has brought of `stream` is not done yet.
  [[nodiscard]] bool waits(int rank, program::Stream stream) {
    return room_of(stream).arrived[static_cast<std::size_t>(rank)] != nullptr;
  }

 private:
  // Where the ranks' steps of one stream meet.
  struct Room {
    std::mutex mutex;
    std::condition_variable done;
    std::vector<const Call*> arrived;
    std::size_t count = 0;  // of them that are not null
  };
  Room& room_of(program::Stream stream) { return rooms_[static_cast<std::size_t>(stream)]; }
  static bool arrive(Room& room, int rank, const Call& call);

  std::array<Room, program::kStreams> rooms_;
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

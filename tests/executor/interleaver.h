#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "executor/call.h"
#include "executor/communicator.h"
#include "executor/rank_run.h"
#include "executor/scratch.h"
#include "executor/session.h"
#include "program/step_program.h"

namespace ftplan::executor {

/// Runs one program of several ranks on the calling thread, step by step, in a random order among
/// those that streams and events allow. A collective runs when its last rank has come, a transfer
/// when both have; until then the stream stands still.
class Interleaver {
 public:
  /// @param runs by rank, with batches set; outlive the interleaver
  Interleaver(const std::vector<RankRun*>& runs, RankRun::Key key);

  struct Outcome {
    bool ended = false;      ///< else nothing could run any more
    std::uint64_t hash = 0;  ///< of the order of all steps of all ranks
  };
  Outcome run(const std::vector<Scalars>& scalars, std::mt19937_64& random);

 private:
  // One stream of one rank.
  struct Lane {
    int rank = 0;
    program::Stream stream = program::Stream::kCompute;
    std::vector<std::int32_t> steps;  ///< in order
    std::size_t next = 0;
    bool arrived = false;  ///< its next step is a collective that waits for other ranks
  };
  [[nodiscard]] bool ready(const Lane& lane) const;
  void advance(Lane& lane, std::vector<Scalars>& scalars);
  void end_step(Lane& lane);

  std::vector<Session*> sessions_;
  std::vector<Lane> lanes_;
  std::vector<std::vector<bool>> ended_;          // by rank and step
  std::vector<std::optional<Call>> collectives_;  // that a lane has brought
  Scratch no_scratch_;
  InProcessGroup group_;
};

}  // namespace ftplan::executor

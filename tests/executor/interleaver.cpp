#include "tests/executor/interleaver.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "core/check.h"
#include "executor/call.h"
#include "executor/rank_run.h"
#include "executor/session.h"
#include "program/ops/collective.h"
#include "program/step_program.h"
#include "tests/executor/support.h"

namespace ftplan::executor {

Interleaver::Interleaver(const std::vector<RankRun*>& runs, RankRun::Key key)
    : group_(static_cast<int>(runs.size())) {
  for (std::size_t rank = 0; rank < runs.size(); ++rank) {
    Session& session = runs[rank]->session(key);
    sessions_.push_back(&session);
    ended_.emplace_back(session.walk().steps.size(), false);
    for (const auto stream :
         {program::Stream::kCompute, program::Stream::kCommunication, program::Stream::kGather}) {
      Lane lane{.rank = static_cast<int>(rank), .stream = stream};
      for (std::size_t i = 0; i < session.walk().steps.size(); ++i) {
        const auto step = static_cast<std::int32_t>(i);
        if (session.instruction(step).stream == stream) lane.steps.push_back(step);
      }
      if (!lane.steps.empty()) lanes_.push_back(std::move(lane));
    }
  }
  collectives_.resize(lanes_.size());
}

bool Interleaver::ready(const Lane& lane) const {
  if (lane.arrived || lane.next == lane.steps.size()) return false;
  const auto rank = static_cast<std::size_t>(lane.rank);
  const auto& waits = sessions_[rank]->waits(lane.steps[lane.next]);
  return std::all_of(waits.begin(), waits.end(), [&](std::int32_t other) {
    return static_cast<bool>(ended_[rank][static_cast<std::size_t>(other)]);
  });
}

void Interleaver::end_step(Lane& lane) {
  ended_[static_cast<std::size_t>(lane.rank)][static_cast<std::size_t>(lane.steps[lane.next])] =
      true;
  lane.arrived = false;
  ++lane.next;
}

void Interleaver::advance(Lane& lane, std::vector<Scalars>& scalars) {
  const auto rank = static_cast<std::size_t>(lane.rank);
  const std::int32_t step = lane.steps[lane.next];
  Session& session = *sessions_[rank];
  const program::Instruction& instruction = session.instruction(step);
  if (!program::communicates(instruction.op)) {
    need(session.execute(step, scalars[rank]));
    return end_step(lane);
  }
  FTPLAN_CHECK(instruction.predicate == program::kAlways);
  std::optional<Call>& arrival = collectives_[static_cast<std::size_t>(&lane - lanes_.data())];
  arrival.emplace(session.call_of(step, scalars[rank], no_scratch_));
  lane.arrived = true;
  if (!group_.arrive(lane.rank, *arrival)) return;
  for (Lane& each : lanes_) {
    if (each.arrived && !group_.waits(each.rank, each.stream)) end_step(each);
  }
}

Interleaver::Outcome Interleaver::run(const std::vector<Scalars>& scalars,
                                      std::mt19937_64& random) {
  for (auto& of_rank : ended_) std::fill(of_rank.begin(), of_rank.end(), false);
  for (Lane& lane : lanes_) {
    lane.next = 0;
    lane.arrived = false;
  }
  std::vector<Scalars> own = scalars;
  Outcome outcome{.hash = 14695981039346656037ULL};
  std::vector<std::size_t> ready_lanes;
  while (true) {
    ready_lanes.clear();
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
      if (ready(lanes_[i])) ready_lanes.push_back(i);
    }
    if (ready_lanes.empty()) break;
    const std::size_t chosen = ready_lanes[random() % ready_lanes.size()];
    // FNV-1a: the lane says which step it is.
    outcome.hash = (outcome.hash ^ chosen) * 1099511628211ULL;
    advance(lanes_[chosen], own);
  }
  outcome.ended = std::all_of(lanes_.begin(), lanes_.end(),
                              [](const Lane& lane) { return lane.next == lane.steps.size(); });
  return outcome;
}

}  // namespace ftplan::executor

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/method.h"
#include "core/units.h"
#include "executor/call.h"
#include "executor/feeding.h"
#include "executor/rank_run.h"
#include "program/lifetimes.h"
#include "program/lowering.h"
#include "program/occupancy.h"
#include "program/print.h"
#include "program/step_program.h"
#include "program/verify.h"
#include "program/walk.h"
#include "tests/executor/interleaver.h"
#include "tests/executor/support.h"
#include "tests/program/support.h"

// Whatever order streams and events leave open, the weights are the same to the bit.

namespace ftplan::executor {
namespace {

using program::ProgramKind;
using program::StepProgram;

// As f64, f32 and bf16 a NaN, as an index far out of range.
constexpr std::byte kNanPattern{0xFF};

// The ranks of a world, whose training programs may be changed before their first step.
class Ranks {
 public:
  using Change = std::function<void(std::int64_t rank, StepProgram&)>;

  explicit Ranks(const World& world, const Change& change = {}) {
    for (std::int64_t rank = 0; rank < world.job.ranks(); ++rank) {
      feeders_.push_back(world.feeder(rank));
      runs_.push_back(world.load(rank));
    }
    rows_ = feeders_[0].rows_of_step(0);
    key_ = {ProgramKind::kTrain, rows_.length};
    for (std::size_t rank = 0; rank < runs_.size(); ++rank) {
      fills_.push_back(feeders_[rank].fill(rows_));
      scalars_.push_back(runs_[rank]->scalars_of(world.input(0, rows_)));
      if (change) change(static_cast<std::int64_t>(rank), runs_[rank]->program(key_));
      for (const Place place : {Place::kDevice, Place::kHost}) {
        const auto bytes = persistent(rank, place);
        loaded_.emplace_back(bytes.begin(), bytes.end());
      }
    }
    std::vector<RankRun*> runs;
    for (std::size_t rank = 0; rank < runs_.size(); ++rank) {
      runs_[rank]->set_fill(&fills_[rank]);
      runs.push_back(runs_[rank].get());
    }
    interleaver_ = std::make_unique<Interleaver>(runs, key_);
  }

  // One step from the loaded state, everything else poisoned.
  Interleaver::Outcome step(std::mt19937_64& random) {
    std::size_t at = 0;
    for (std::size_t rank = 0; rank < runs_.size(); ++rank) {
      for (const Place place : {Place::kDevice, Place::kHost}) {
        const std::vector<std::byte>& from = loaded_[at++];
        const auto bytes = persistent(rank, place);
        std::copy(from.begin(), from.end(), bytes.begin());
        poison(runs_[rank]->arenas().of(place), kNanPattern,
               Bytes{static_cast<std::int64_t>(from.size())});
      }
    }
    return interleaver_->run(scalars_, random);
  }

  [[nodiscard]] std::vector<std::byte> bits() const {
    std::vector<std::byte> all;
    for (const auto& run : runs_) {
      const auto of_rank = bits_of(*run);
      all.insert(all.end(), of_rank.begin(), of_rank.end());
    }
    return all;
  }

  [[nodiscard]] std::vector<StepProgram> programs() const {
    std::vector<StepProgram> all;
    for (const auto& run : runs_) all.push_back(run->program(key_));
    return all;
  }

 private:
  [[nodiscard]] std::span<std::byte> persistent(std::size_t rank, Place place) const {
    const Bytes size = runs_[rank]->some_program().persistent[static_cast<std::size_t>(place)];
    return runs_[rank]->arenas().of(place).bytes().first(static_cast<std::size_t>(size.value));
  }

  std::vector<Feeder> feeders_;
  std::vector<std::unique_ptr<RankRun>> runs_;
  StepRows rows_;
  RankRun::Key key_;
  std::vector<FillBatch> fills_;
  std::vector<Scalars> scalars_;
  std::vector<std::vector<std::byte>> loaded_;  // persistent bytes by rank and place
  std::unique_ptr<Interleaver> interleaver_;
};

class Interleavings : public testing::TestWithParam<Setting> {};
INSTANTIATE_TEST_SUITE_P(
    Settings, Interleavings,
    testing::Values(Setting{.ranks = 2, .layers = 4, .hidden = 16},
                    Setting{.ranks = 2, .accumulation = 2, .checkpointing = {.every = 1}},
                    Setting{.method = Method::kLora, .ranks = 2, .layers = 4, .hidden = 16},
                    Setting{.ranks = 3,
                            .accumulation = 2,
                            .layers = 4,
                            .hidden = 16,
                            .stage_layers = {2, 1, 1},
                            .checkpointing = {.every = 1}},
                    Setting{.ranks = 2, .zero = 0, .layers = 4, .hidden = 16},
                    Setting{.ranks = 2, .zero = 2, .accumulation = 3, .layers = 4, .hidden = 16},
                    Setting{.ranks = 2, .zero = 3, .layers = 4, .hidden = 16, .tied = true},
                    Setting{.method = Method::kQlora,
                            .ranks = 2,
                            .zero = 3,
                            .accumulation = 2,
                            .layers = 4,
                            .hidden = 16,
                            .checkpointing = {.every = 2}}));

TEST_P(Interleavings, GiveTheSameWeights) {
  constexpr int kRuns = 130;
  const World world(GetParam());
  Ranks ranks(world);
  ASSERT_EQ(program::verify_ranks(ranks.programs()), "");
  std::set<std::uint64_t> orders;
  std::vector<std::byte> first;
  for (int seed = 0; seed < kRuns; ++seed) {
    std::mt19937_64 random(static_cast<std::uint64_t>(seed));
    const auto outcome = ranks.step(random);
    ASSERT_TRUE(outcome.ended) << "seed " << seed << ": no stream can go on";
    orders.insert(outcome.hash);
    const std::vector<std::byte> bits = ranks.bits();
    if (first.empty()) first = bits;
    ASSERT_EQ(bits == first, true) << "seed " << seed;
  }
  EXPECT_GT(orders.size(), 100U);
  // On threads of their own they end in the same place.
  const Trained threaded = train_ranks(world, 1);
  EXPECT_TRUE(threaded.ranks_agree);
  EXPECT_EQ(threaded.bits == ranks.bits(), true);
}

// Each way to leave out one wait or one signal of one rank's program.
struct Removal {
  std::string what;
  Ranks::Change change;
};

std::vector<Removal> removals(const StepProgram& program, std::int64_t rank) {
  std::vector<Removal> all;
  for (std::size_t id = 0; id < program.instructions.size(); ++id) {
    const program::Instruction& instruction = program.instructions[id];
    const std::string text = program::print(program, instruction);
    for (int i = 0; i < instruction.waits.size(); ++i) {
      if (program::only_receives_await(program, instruction.waits[i].event)) continue;
      all.push_back({"wait " + std::to_string(i) + " of " + text,
                     [rank, id, i](std::int64_t of, StepProgram& changed) {
                       if (of != rank) return;
                       auto& waits = changed.instructions[id].waits;
                       const auto before = waits;
                       waits.clear();
                       for (int k = 0; k < before.size(); ++k) {
                         if (k != i) waits.push_back(before[k]);
                       }
                     }});
    }
    if (instruction.signals != program::kNone &&
        !program::only_receives_await(program, instruction.signals)) {
      all.push_back({"signal of " + text, [rank, id](std::int64_t of, StepProgram& changed) {
                       if (of == rank) changed.instructions[id].signals = program::kNone;
                     }});
    }
  }
  return all;
}

// Whether some of `runs` random orders gives other weights than `expected`.
bool some_order_differs(const World& world, const Ranks::Change& change,
                        const std::vector<std::byte>& expected, int runs) {
  Ranks ranks(world, change);
  for (int seed = 0; seed < runs; ++seed) {
    std::mt19937_64 random(static_cast<std::uint64_t>(seed));
    if (!ranks.step(random).ended || ranks.bits() != expected) return true;
  }
  return false;
}

// Bytes of gathered weights, added up over all steps. Some waits keep gathers from running further
// ahead than the memory that was planned for them.
std::int64_t gathered_bytes(const StepProgram& program) {
  const program::Walk steps = program::walk(program, program::Sampling::kAll);
  std::int64_t sum = 0;
  for (const auto& live :
       program::occupancy(program, steps, program::lives_of(program, steps), Place::kDevice)) {
    sum += live[static_cast<std::size_t>(Category::kGathered)];
  }
  return sum;
}

TEST_P(Interleavings, NeedEveryEvent) {
  const World world(GetParam());
  Ranks good(world);
  std::mt19937_64 random(0);
  ASSERT_TRUE(good.step(random).ended);
  const std::vector<std::byte> expected = good.bits();
  constexpr int kWitnessed = 3;
  int differing = 0;
  // Ranks of one stage have the same events.
  std::vector<Removal> all;
  for (std::int64_t rank = 0; rank < world.job.stages(); ++rank) {
    auto of_rank = removals(good.programs()[static_cast<std::size_t>(rank)], rank);
    std::move(of_rank.begin(), of_rank.end(), std::back_inserter(all));
  }
  for (const Removal& removal : all) {
    std::vector<StepProgram> programs = good.programs();
    for (std::size_t rank = 0; rank < programs.size(); ++rank)
      removal.change(static_cast<std::int64_t>(rank), programs[rank]);
    const bool reported = !program::verify_ranks(programs).empty();
    if (reported && differing >= kWitnessed) continue;
    const bool differs = some_order_differs(world, removal.change, expected, /*runs=*/20);
    const bool holds_more = gathered_bytes(programs[0]) > gathered_bytes(good.programs()[0]);
    EXPECT_TRUE(reported || differs || holds_more)
        << "nothing notices that it lacks the " << removal.what;
    differing += differs ? 1 : 0;
  }
  // The orders themselves are a witness too, not only the verifier.
  EXPECT_GE(differing, kWitnessed);
}

}  // namespace
}  // namespace ftplan::executor

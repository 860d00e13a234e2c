#include "executor/evaluations.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/training.h"
#include "program/run_files.h"

namespace ftplan::executor {
namespace {

using Steps = std::vector<std::int64_t>;

// After which of `steps` steps in epochs of 5 rows are evaluated.
Steps due(const TrainingOptions& training, std::int64_t steps) {
  const Evaluations evaluations(training, 5, steps);
  Steps found;
  for (std::int64_t step = 1; step <= steps; ++step) {
    if (evaluations.due(step)) found.push_back(step);
  }
  return found;
}

TEST(Evaluations, AreDueAtTheirStepsAndAtTheEnd) {
  EXPECT_EQ(due({.eval_every = {.steps = 3}}, 10), (Steps{3, 6, 9, 10}));
  EXPECT_EQ(due({.eval_every = {.epoch = true}}, 12), (Steps{5, 10, 12}));
  EXPECT_EQ(due({.eval_every = {.epoch = true}}, 10), (Steps{5, 10}));
  EXPECT_EQ(due({.eval_every = {}}, 10), Steps{});
}

TEST(Evaluations, WaitForTheDelayInTheUnitOfTheirCadence) {
  EXPECT_EQ(due({.eval_every = {.steps = 3}, .eval_delay = 6}, 10), (Steps{6, 9, 10}));
  EXPECT_EQ(due({.eval_every = {.epoch = true}, .eval_delay = 2}, 17), (Steps{10, 15, 17}));
  EXPECT_EQ(due({.eval_every = {.epoch = true}, .eval_delay = 1.5}, 10), (Steps{10}));
  // The end is evaluated in any case.
  EXPECT_EQ(due({.eval_every = {.steps = 3}, .eval_delay = 99}, 10), (Steps{10}));
}

TEST(Evaluations, KnowTheLowestFiniteLoss) {
  const TrainingOptions training;
  Evaluations evaluations(training, 5, 100);
  EXPECT_FALSE(evaluations.add(5, std::numeric_limits<double>::quiet_NaN()));
  EXPECT_EQ(evaluations.best().step, 0);
  EXPECT_TRUE(evaluations.add(10, 2.0));
  EXPECT_FALSE(evaluations.add(15, 2.0));
  EXPECT_TRUE(evaluations.add(20, 1.5));
  EXPECT_FALSE(evaluations.add(25, std::numeric_limits<double>::infinity()));
  EXPECT_EQ(evaluations.best(), (program::BestState{.step = 20, .loss = 1.5, .worse = 1}));
}

TEST(Evaluations, StopWhenPatienceIsAtItsEnd) {
  const TrainingOptions training{.early_stopping_patience = 2};
  Evaluations evaluations(training, 5, 100);
  for (const double loss : {3.0, 3.5, 2.0, 2.5}) {
    evaluations.add(1, loss);
    EXPECT_FALSE(evaluations.stop());
  }
  evaluations.add(1, 2.25);
  EXPECT_TRUE(evaluations.stop());
}

// The best moves with every fall, but only a large enough one is an improvement.
TEST(Evaluations, CountSmallFallsAsNoImprovement) {
  const TrainingOptions training{.early_stopping_patience = 2, .early_stopping_threshold = 0.5};
  Evaluations evaluations(training, 5, 100);
  evaluations.add(1, 3.0);
  evaluations.add(2, 2.75);
  EXPECT_FALSE(evaluations.stop());
  evaluations.add(3, 2.375);
  EXPECT_TRUE(evaluations.stop());
  EXPECT_EQ(evaluations.best(), (program::BestState{.step = 3, .loss = 2.375, .worse = 2}));
}

TEST(Evaluations, GoOnFromWhatACheckpointSays) {
  const TrainingOptions training{.early_stopping_patience = 2};
  Evaluations evaluations(training, 5, 100);
  evaluations.restore({.step = 5, .loss = 1.0, .worse = 1});
  EXPECT_FALSE(evaluations.add(10, 1.25));
  EXPECT_TRUE(evaluations.stop());
}

}  // namespace
}  // namespace ftplan::executor

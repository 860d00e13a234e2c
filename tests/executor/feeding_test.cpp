#include "executor/feeding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <set>
#include <vector>

#include "core/dtype.h"
#include "core/training.h"
#include "data/documents.h"
#include "data/rows.h"
#include "program/step_program.h"
#include "tests/executor/support.h"

namespace ftplan::executor {
namespace {

using Ints = std::vector<std::int32_t>;

// The arrays of a micro-step, as the program would hold them.
struct Arrays {
  Arrays(std::int64_t batch, std::int64_t length)
      : ids(static_cast<std::size_t>(batch * length), -7),
        targets(ids),
        positions(ids),
        starts(ids),
        row_ids(static_cast<std::size_t>(batch), -7),
        order(ids),
        by_token{.shape = {batch, length}, .dtype = DType::kI32},
        by_row{.shape = {batch}, .dtype = DType::kI32} {}

  [[nodiscard]] std::array<View, 8> views() {
    const auto view = [](Ints& values, const program::Tensor& tensor) {
      return View{reinterpret_cast<std::byte*>(values.data()), &tensor};
    };
    return {view(ids, by_token),    view(targets, by_token), view(positions, by_token),
            view(starts, by_token), view(row_ids, by_row),   view(order, by_token)};
  }

  Ints ids, targets, positions, starts, row_ids, order;
  program::Tensor by_token, by_row;
};

Ints part(const Ints& values, std::int64_t begin, std::int64_t count) {
  return {values.begin() + begin, values.begin() + begin + count};
}

// What a row of the data becomes in a batch of that length.
void expect_row(const data::RowSet& set, std::int64_t row, std::int64_t length, const Arrays& got,
                std::int64_t slot) {
  Ints ids(static_cast<std::size_t>(length), 0);
  Ints targets(static_cast<std::size_t>(length), data::kNoLabel);
  const auto its_ids = set.part_of(set.ids, row);
  const auto its_labels = set.part_of(set.labels, row);
  std::copy(its_ids.begin(), its_ids.end(), ids.begin());
  // Position t predicts the label of t + 1.
  std::copy(its_labels.begin() + 1, its_labels.end(), targets.begin());
  EXPECT_EQ(part(got.ids, slot * length, length), ids) << "row " << row;
  EXPECT_EQ(part(got.targets, slot * length, length), targets) << "row " << row;
}

TEST(Feeder, GivesEachSlotToItsMicroStepAndRank) {
  // 2 ranks x 2 micro-steps x 2 rows: slots 0 1 | 2 3 | 4 5 | 6 7 go to (step, rank) 00 01 10 11.
  const World world(Setting{.ranks = 2, .accumulation = 2, .rows = 16});
  std::set<std::int32_t> slots;
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const Feeder feeder = world.feeder(rank);
    EXPECT_EQ(feeder.steps_per_epoch(), 16 / 8);
    const StepRows rows = feeder.rows_of_step(1);
    ASSERT_EQ(rows.rows.size(), 8U);
    for (std::int32_t micro_step = 0; micro_step < 2; ++micro_step) {
      Arrays got(2, rows.length);
      feeder.fill(rows)(micro_step, got.views());
      for (std::int64_t i = 0; i < 2; ++i) {
        const std::int64_t slot = (micro_step * 2 + rank) * 2 + i;
        EXPECT_EQ(got.row_ids[static_cast<std::size_t>(i)], slot);
        slots.insert(got.row_ids[static_cast<std::size_t>(i)]);
        expect_row(world.data.training, rows.rows[static_cast<std::size_t>(slot)], rows.length, got,
                   i);
      }
    }
  }
  EXPECT_EQ(slots.size(), 8U);
}

TEST(Feeder, CountsTheWholeGlobalBatchOnEveryRank) {
  const World world(Setting{.ranks = 2, .accumulation = 2, .rows = 16});
  for (std::int64_t step = 0; step < 2; ++step) {
    const StepRows first = world.feeder(0).rows_of_step(step);
    const StepRows second = world.feeder(1).rows_of_step(step);
    EXPECT_EQ(first.rows, second.rows);
    EXPECT_EQ(first.length, second.length);
    EXPECT_EQ(first.target_tokens, second.target_tokens);
    std::int64_t targets = 0;
    std::int64_t tokens = 0;
    std::int64_t longest = 0;
    for (const std::int64_t row : first.rows) {
      const auto labels = world.data.training.part_of(world.data.training.labels, row);
      targets += std::count_if(labels.begin() + 1, labels.end(),
                               [](std::int32_t label) { return label >= 0; });
      tokens += static_cast<std::int64_t>(labels.size());
      longest = std::max(longest, static_cast<std::int64_t>(labels.size()));
    }
    EXPECT_EQ(first.target_tokens, targets);
    EXPECT_EQ(first.tokens, tokens);
    EXPECT_EQ(first.length, (longest + 7) / 8 * 8);
  }
}

TEST(Feeder, FillsWhatTheLastPartialBatchLacksWithPadding) {
  // 11 rows in batches of 4 leave 3 for the last step: its second micro-step has one row and
  // padding.
  const World world(Setting{.accumulation = 2, .rows = 11});
  const Feeder feeder = world.feeder();
  EXPECT_EQ(feeder.steps_per_epoch(), 3);
  const StepRows rows = feeder.rows_of_step(2);
  ASSERT_EQ(rows.rows.size(), 3U);
  Arrays got(2, rows.length);
  feeder.fill(rows)(1, got.views());
  expect_row(world.data.training, rows.rows[2], rows.length, got, 0);
  const auto length = rows.length;
  EXPECT_EQ(part(got.ids, length, length), Ints(static_cast<std::size_t>(length), 0));
  EXPECT_EQ(part(got.targets, length, length),
            Ints(static_cast<std::size_t>(length), data::kNoLabel));
  for (std::int64_t i = 0; i < length; ++i)
    EXPECT_EQ(got.starts[static_cast<std::size_t>(length + i)], i);
  // All positions by ascending id, none twice.
  Ints sorted = got.order;
  EXPECT_TRUE(std::is_sorted(sorted.begin(), sorted.end(), [&](std::int32_t a, std::int32_t b) {
    return got.ids[static_cast<std::size_t>(a)] < got.ids[static_cast<std::size_t>(b)];
  }));
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t i = 0; i < sorted.size(); ++i)
    EXPECT_EQ(sorted[i], static_cast<std::int32_t>(i));
}

TEST(Feeder, APartialBatchTrainsOnItsRowsAlone) {
  // Its loss is the mean over its own targets: that of the same rows in smaller batches, weighted
  // by targets.
  const World world(Setting{.micro_batch = 4, .rows = 6, .longest = 8});
  const World single(Setting{.micro_batch = 1, .rows = 6, .longest = 8});
  auto run = world.load();
  const Feeder feeder = world.feeder();
  const StepRows rows = feeder.rows_of_step(1);
  ASSERT_EQ(rows.rows.size(), 2U);
  const double loss = world.train(*run, 1).loss;
  double sum = 0;
  for (const std::int64_t row : rows.rows) {
    auto fresh = single.load();
    sum += single.train(*fresh, row).loss *
           static_cast<double>(single.feeder().rows_of_step(row).target_tokens);
  }
  EXPECT_NEAR(loss, sum / static_cast<double>(rows.target_tokens), 1e-5);
}

TEST(Feeder, ValidatesEveryHeldOutRowOnce) {
  const World world(Setting{.validation = 0.3, .rows = 10});
  const Feeder feeder = world.feeder();
  std::vector<std::int64_t> seen;
  for (const StepRows& rows : feeder.validation()) {
    EXPECT_LE(rows.rows.size(), 2U);
    seen.insert(seen.end(), rows.rows.begin(), rows.rows.end());
    Arrays got(2, rows.length);
    feeder.fill_validation(rows)(0, got.views());
    for (std::size_t i = 0; i < rows.rows.size(); ++i) {
      expect_row(world.data.validation, rows.rows[i], rows.length, got,
                 static_cast<std::int64_t>(i));
    }
  }
  EXPECT_EQ(seen, (std::vector<std::int64_t>{0, 1, 2}));
}

TEST(TotalSteps, AreTheStepsOfAllEpochsRoundedUp) {
  EXPECT_EQ(total_steps({.epochs = 1}, 7), 7);
  EXPECT_EQ(total_steps({.epochs = 2.5}, 7), /*17.5 rounded up=*/18);
  EXPECT_EQ(total_steps({.epochs = 0}, 7), 1);
  EXPECT_EQ(total_steps({.epochs = 3, .steps = 5}, 7), 5);
}

// The factor of the highest rate, written as transformers 5.23 does in optimization.py.
double transformers_factor(Schedule schedule, std::int64_t current_step,
                           std::int64_t num_warmup_steps, std::int64_t num_training_steps) {
  const auto real = [](std::int64_t value) { return static_cast<double>(value); };
  if (current_step < num_warmup_steps)
    return real(current_step) / real(std::max<std::int64_t>(1, num_warmup_steps));
  const double left = real(std::max<std::int64_t>(1, num_training_steps - num_warmup_steps));
  switch (schedule) {
    case Schedule::kConstant:
      return 1;
    case Schedule::kLinear:
      return std::max(0.0, real(num_training_steps - current_step) / left);
    case Schedule::kCosine: {
      const double num_cycles = 0.5;
      const double progress = real(current_step - num_warmup_steps) / left;
      return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * num_cycles * 2.0 * progress)));
    }
  }
  return -1;
}

class LearningRate : public testing::TestWithParam<Schedule> {};
INSTANTIATE_TEST_SUITE_P(Schedules, LearningRate,
                         testing::Values(Schedule::kCosine, Schedule::kLinear,
                                         Schedule::kConstant));

TEST_P(LearningRate, IsThatOfTransformers) {
  for (const std::int64_t total : {1, 2, 10, 37}) {
    for (const std::int64_t warmup : {0, 1, 4, 37}) {
      const TrainingOptions training{.schedule = GetParam(), .warmup_steps = warmup};
      for (std::int64_t step = 0; step < total; ++step) {
        EXPECT_NEAR(learning_rate_at(training, 0.25, step, total),
                    0.25 * transformers_factor(GetParam(), step, warmup, total), 1e-15)
            << "step " << step << " of " << total << ", warm-up " << warmup;
      }
    }
  }
}

TEST(LearningRate, HasTheValuesThatOneExpects) {
  const TrainingOptions cosine{.warmup_steps = 4};
  // Rises in four steps, is highest at the fifth, halved in the middle of what is left, and never 0
  // within the run.
  EXPECT_EQ(learning_rate_at(cosine, 8, 0, 12), 0);
  EXPECT_EQ(learning_rate_at(cosine, 8, 1, 12), /*8 * 1/4=*/2);
  EXPECT_EQ(learning_rate_at(cosine, 8, 4, 12), 8);
  EXPECT_NEAR(learning_rate_at(cosine, 8, 8, 12), /*8 * (1 + cos(pi / 2)) / 2=*/4, 1e-14);
  EXPECT_GT(learning_rate_at(cosine, 8, 11, 12), 0);
  // A share is rounded up: ceil(0.1 * 12) = 2 steps.
  const TrainingOptions share{.schedule = Schedule::kLinear, .warmup_ratio = 0.1};
  EXPECT_EQ(learning_rate_at(share, 8, 1, 12), /*8 * 1/2=*/4);
  EXPECT_EQ(learning_rate_at(share, 8, 2, 12), 8);
  EXPECT_NEAR(learning_rate_at(share, 8, 7, 12), /*8 * 5/10=*/4, 1e-14);
}

}  // namespace
}  // namespace ftplan::executor

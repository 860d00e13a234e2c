#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

#include "core/method.h"
#include "tests/executor/support.h"

// A model that is cut into stages computes what the whole one computes, bit by bit: only the
// squares of the gradient norm are added in another order.

namespace ftplan::executor {
namespace {

constexpr std::int64_t kStagedSteps = 3;

Setting whole(Setting setting) {
  setting.ranks = 1;
  setting.stage_layers.clear();
  return setting;
}

class Stages : public testing::TestWithParam<Setting> {};
INSTANTIATE_TEST_SUITE_P(
    Naive, Stages,
    testing::Values(
        Setting{.ranks = 2, .stage_layers = {1, 2}},
        Setting{.ranks = 3, .accumulation = 2, .threads = 2, .stage_layers = {1, 1, 1}},
        Setting{.precision = Precision::kBf16,
                .ranks = 2,
                .accumulation = 3,
                .layers = 5,
                .stage_layers = {3, 2},
                .checkpointing = {.every = 1}},
        Setting{.ranks = 2, .layers = 6, .stage_layers = {5, 1}, .checkpointing = {.every = 2}},
        Setting{.method = Method::kLora,
                .ranks = 3,
                .layers = 4,
                .stage_layers = {2, 1, 1},
                .tied = true,
                .dropout = 0.1},
        Setting{.method = Method::kQlora,
                .optimizer = Optimizer::kPagedAdamw8bit,
                .ranks = 2,
                .stage_layers = {2, 1},
                .checkpointing = {.every = 1}},
        Setting{
            .method = Method::kInt8Lora, .ranks = 2, .accumulation = 2, .stage_layers = {2, 1}}));

TEST_P(Stages, ComputeWhatTheWholeModelDoes) {
  Setting unclipped = GetParam();
  unclipped.clip = 0;
  const Trained cut = train_ranks(World(unclipped), kStagedSteps);
  const Trained one = train_ranks(World(whole(unclipped)), kStagedSteps);
  EXPECT_TRUE(cut.ranks_agree);
  for (std::size_t step = 0; step < kStagedSteps; ++step) {
    EXPECT_EQ(cut.losses[step], one.losses[step]) << step;
    EXPECT_NEAR(cut.norms[step], one.norms[step], 1e-9 * one.norms[step]) << step;
  }
  EXPECT_EQ(largest_difference(cut.values, one.values), 0);
}

TEST_P(Stages, ClipByTheNormOfAll) {
  Setting clipped = GetParam();
  clipped.clip = 0.01;
  const Trained cut = train_ranks(World(clipped), kStagedSteps);
  const Trained one = train_ranks(World(whole(clipped)), kStagedSteps);
  EXPECT_LT(largest_difference(cut.values, one.values), 1e-6);
}

}  // namespace
}  // namespace ftplan::executor

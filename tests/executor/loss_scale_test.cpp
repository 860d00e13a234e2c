#include "core/loss_scale.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/method.h"
#include "executor/call.h"
#include "executor/checkpointing.h"
#include "executor/rank_run.h"
#include "models/convert.h"
#include "tests/executor/support.h"

// A step whose fp16 gradients overflow changes nothing but the scale.

namespace ftplan::executor {
namespace {

TEST(LossScale, HalvesWhereGradientsOverflowAndDoublesAfter2000UpdatesInARow) {
  LossScale scale;
  EXPECT_EQ(scale.scale, 65536.0F);
  for (int i = 0; i < 1999; ++i) scale.update(true);
  EXPECT_EQ(scale.scale, 65536.0F);
  scale.update(false);
  EXPECT_EQ(scale, (LossScale{.scale = 32768, .clean_steps = 0, .skipped = 1}));
  for (int i = 0; i < 1999; ++i) scale.update(true);
  EXPECT_EQ(scale, (LossScale{.scale = 32768, .clean_steps = 1999, .skipped = 1}));
  scale.update(true);
  EXPECT_EQ(scale, (LossScale{.scale = 65536, .clean_steps = 0, .skipped = 1}));
}

TEST(LossScale, NeverGrowsToInfinity) {
  LossScale scale{.scale = 0x1p127F, .clean_steps = 1999};
  scale.update(true);
  EXPECT_EQ(scale, (LossScale{.scale = 0x1p127F, .clean_steps = 0}));
}

TEST(LossScale, IsExhaustedEightHalvingsBelowOne) {
  LossScale scale{.scale = 1};
  for (int i = 0; i < 8; ++i) scale.update(false);
  EXPECT_FALSE(scale.exhausted());
  scale.update(false);
  EXPECT_TRUE(scale.exhausted());
}

TEST(LossScale, SurvivesTheWayThroughTextBitByBit) {
  LossScale* const tag = nullptr;
  const LossScale odd{.scale = 0.1F, .clean_steps = 1234, .skipped = 77};
  EXPECT_EQ(to_text(odd), "3dcccccd 000000001234 000000000077");
  EXPECT_EQ(parse_text(to_text(odd), tag), odd);
  EXPECT_EQ(to_text(odd).size(), to_text(LossScale{}).size());
  for (const std::string broken :
       {"", "3dcccccd", "3dcccccd 000000001234 00000000007", "3dcccccd 000000001234 0000000000x7",
        "7f800000 000000001234 000000000077", "00000000 000000001234 000000000077"}) {
    EXPECT_EQ(parse_text(broken, tag), std::nullopt) << broken;
  }
}

// One batch again and again.
World world_of(Method method, double loss_scale, std::int64_t ranks = 1) {
  return World(Setting{.method = method,
                       .precision = Precision::kFp16,
                       .ranks = ranks,
                       .learning_rate = 1e-2,
                       .loss_scale = loss_scale,
                       .rows = 2});
}

class Overflow : public testing::TestWithParam<Method> {};
INSTANTIATE_TEST_SUITE_P(Methods, Overflow,
                         testing::Values(Method::kFull, Method::kLora, Method::kQlora));

// The gradient of a logit is up to scale / target tokens, and those are 13 to 26.
constexpr double kHuge = 0x1p40;

TEST_P(Overflow, LeavesOutTheStepAndHalvesTheScale) {
  const World world = world_of(GetParam(), kHuge);
  const auto run = world.load();
  const std::vector<std::byte> before = bits_of(*run);
  for (int step = 0; step < 3; ++step) {
    const StepOutput output = world.train(*run, step);
    EXPECT_TRUE(std::isfinite(output.loss));
    EXPECT_FALSE(output.finite);
    EXPECT_EQ(output.loss_scale, std::ldexp(kHuge, -step));
    EXPECT_EQ(run->loss_scale()->scale, std::ldexp(kHuge, -step - 1));
    EXPECT_EQ(run->skipped_steps(), step + 1);
    EXPECT_EQ(bits_of(*run) == before, true);
  }
}

// What was left out counts in no moment's bias correction. Scales are powers of two, so no
// gradient that is not tiny is rounded differently.
TEST_P(Overflow, GoesOnAsARunThatBeganWithTheScaleThatFits) {
  const World world = world_of(GetParam(), kHuge);
  const auto run = world.load();
  std::int64_t skipped = 0;
  while (!world.train(*run, skipped).finite) ++skipped;
  EXPECT_GT(skipped, 10);
  EXPECT_EQ(run->skipped_steps(), skipped);
  const double fits = run->loss_scale()->scale;
  const World other = world_of(GetParam(), fits);
  const auto clean = other.load();
  ASSERT_TRUE(other.train(*clean, 0).finite);
  EXPECT_EQ(bits_of(*run) == bits_of(*clean), true);
  const double first = other.train(*clean, 1).loss;
  EXPECT_EQ(world.train(*run, skipped + 1).loss, first);
  double last = first;
  for (std::int64_t step = 2; step < 30; ++step) last = world.train(*run, skipped + step).loss;
  EXPECT_LT(last, 0.8 * first);
}

TEST_P(Overflow, IsRememberedByACheckpoint) {
  const World world = world_of(GetParam(), kHuge);
  const auto run = world.load();
  std::int64_t step = 0;
  while (!world.train(*run, step++).finite) {
  }
  const Checkpoints checkpoints(world.folder / "checkpoints", std::string(16, '0'));
  need(checkpoints.save(*run, {.step = step, .loss_scale = run->loss_scale()}));
  const auto again = world.load();
  EXPECT_TRUE(need(checkpoints.restore(*again)).has_value());
  EXPECT_EQ(again->loss_scale(), run->loss_scale());
  for (int more = 0; more < 3; ++more, ++step) {
    EXPECT_EQ(world.train(*again, step).loss, world.train(*run, step).loss);
    EXPECT_EQ(bits_of(*again) == bits_of(*run), true);
  }
}

TEST_P(Overflow, OfTheForwardIsNoMatterOfTheScale) {
  const World world = world_of(GetParam(), 1024);
  const auto run = world.load();
  ASSERT_TRUE(world.train(*run, 0).finite);
  const View embedding = run->weight(run->some_program().weights.front(), 0);
  const std::uint16_t nan = models::f32_to_f16(std::numeric_limits<float>::quiet_NaN());
  std::fill_n(embedding.as<std::uint16_t>(), embedding.elements(), nan);
  const LossScale before = *run->loss_scale();
  const StepOutput output = world.train(*run, 1);
  EXPECT_FALSE(std::isfinite(output.loss));
  EXPECT_FALSE(output.finite);
  EXPECT_EQ(run->loss_scale(), before);
}

TEST(Ranks, AgreeOnTheLossScale) {
  const Trained two = train_ranks(world_of(Method::kFull, 0x1p30, /*ranks=*/2), 20);
  EXPECT_TRUE(two.ranks_agree);
  EXPECT_FALSE(std::isfinite(two.norms.front()));
  EXPECT_TRUE(std::isfinite(two.norms.back()));
}

}  // namespace
}  // namespace ftplan::executor

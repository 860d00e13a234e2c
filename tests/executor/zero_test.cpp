#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/method.h"
#include "tests/executor/support.h"

// Several ranks compute what one rank computes, whatever ZeRO shards.

namespace ftplan::executor {
namespace {

constexpr std::int64_t kSteps = 4;

// The same global batch on one rank.
Setting on_one_rank(Setting setting) {
  setting.accumulation *= setting.ranks;
  setting.ranks = 1;
  return setting;
}

// The values of `one` that `other` has.
std::map<std::string, std::vector<float>> trained_of(const Trained& one, const Trained& other) {
  std::map<std::string, std::vector<float>> values;
  for (const auto& [name, unused] : other.values) values[name] = one.values.at(name);
  return values;
}

class SeveralRanks : public testing::TestWithParam<Setting> {};
INSTANTIATE_TEST_SUITE_P(
    F32, SeveralRanks,
    testing::Values(
        Setting{.ranks = 2}, Setting{.ranks = 2, .accumulation = 2},
        Setting{.ranks = 2, .threads = 2, .tied = true, .checkpointing = {.every = 1}},
        Setting{.method = Method::kLora, .ranks = 2, .dropout = 0.1},
        Setting{.method = Method::kQlora, .ranks = 2},
        Setting{.optimizer = Optimizer::kSgd, .momentum = 0.9, .ranks = 2, .learning_rate = 0.1},
        Setting{.optimizer = Optimizer::kSgd, .ranks = 2, .learning_rate = 0.1},
        Setting{
            .method = Method::kLora, .ranks = 2, .accumulation = 2, .checkpointing = {.every = 2}},
        Setting{.ranks = 2, .zero = 0}, Setting{.ranks = 3, .zero = 0, .accumulation = 3},
        Setting{.method = Method::kInt8Lora, .ranks = 2, .zero = 0, .checkpointing = {.every = 1}},
        Setting{.ranks = 2, .zero = 2, .accumulation = 3, .tied = true, .loss_chunk = 8},
        Setting{.optimizer = Optimizer::kAdamw8bit, .ranks = 2, .zero = 2, .accumulation = 3},
        Setting{.method = Method::kLora,
                .ranks = 3,
                .zero = 2,
                .accumulation = 3,
                .checkpointing = {.every = 2}},
        Setting{.method = Method::kQlora,
                .ranks = 4,
                .zero = 2,
                .micro_batch = 1,
                .checkpointing = {.every = 1}},
        Setting{.ranks = 2, .zero = 3},
        Setting{.ranks = 3,
                .zero = 3,
                .accumulation = 3,
                .layers = 5,
                .tied = true,
                .checkpointing = {.every = 1}},
        Setting{.method = Method::kLora,
                .ranks = 2,
                .zero = 3,
                .prefetch = 0,
                .accumulation = 3,
                .layers = 5,
                .checkpointing = {.every = 2},
                .dropout = 0.1},
        Setting{.method = Method::kQlora,
                .ranks = 3,
                .zero = 3,
                .prefetch = 2,
                .layers = 5,
                .checkpointing = {.every = 2}},
        Setting{.method = Method::kInt8Lora,
                .ranks = 2,
                .zero = 3,
                .persist_below = 300,
                .checkpointing = {.every = 1}},
        Setting{.optimizer = Optimizer::kAdamw8bit, .ranks = 4, .zero = 3, .micro_batch = 1}));

TEST_P(SeveralRanks, EqualOneRank) {
  const Trained several = train_ranks(World(GetParam()), kSteps);
  const Trained one = train_ranks(World(on_one_rank(GetParam())), kSteps);
  EXPECT_TRUE(several.ranks_agree);
  for (std::size_t step = 0; step < kSteps; ++step) {
    EXPECT_NEAR(several.losses[step], one.losses[step], 1e-5 * one.losses[step]) << step;
    EXPECT_NEAR(several.norms[step], one.norms[step], 1e-5 * one.norms[step]) << step;
  }
  EXPECT_LT(largest_difference(several.values, trained_of(one, several)), 1e-5);
}

TEST_P(SeveralRanks, AreFarFromARunThatSkipsPartOfTheBatch) {
  // What the bounds above must tell apart: the same steps on the rows of rank 0 alone.
  Setting half = GetParam();
  half.ranks = 1;
  const Trained several = train_ranks(World(GetParam()), kSteps);
  const Trained one = train_ranks(World(half), kSteps);
  EXPECT_GT(largest_difference(several.values, trained_of(one, several)), 1e-3);
}

// Euclidean norm of what training changed, or of the difference of two runs.
double distance(const std::map<std::string, std::vector<float>>& a,
                const std::map<std::string, std::vector<float>>& b) {
  double sum = 0;
  for (const auto& [name, values] : a) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double difference = static_cast<double>(values[i]) - b.at(name)[i];
      sum += difference * difference;
    }
  }
  return std::sqrt(sum);
}

class TwoRanksBf16 : public testing::TestWithParam<Setting> {};
INSTANTIATE_TEST_SUITE_P(
    Bf16, TwoRanksBf16,
    testing::Values(
        Setting{.precision = Precision::kBf16, .ranks = 2},
        Setting{.precision = Precision::kBf16, .ranks = 2, .accumulation = 2},
        Setting{.precision = Precision::kBf16, .ranks = 2, .zero = 0},
        Setting{.precision = Precision::kBf16, .ranks = 2, .zero = 2, .accumulation = 2},
        Setting{.method = Method::kLora, .precision = Precision::kBf16, .ranks = 2},
        Setting{
            .method = Method::kLora, .precision = Precision::kBf16, .ranks = 2, .accumulation = 2},
        Setting{.precision = Precision::kFp16, .ranks = 2, .loss_scale = 1024}));

// One rank adds the gradients of its micro-steps in f32; from two ranks with one micro-step each
// they travel as bf16 (2^-8), and AdamW turns the rounding of a small gradient into a step of full
// size: 4 % of what training changed. The others send f32.
TEST_P(TwoRanksBf16, AreCloseToOneRank) {
  const World world(GetParam());
  const Trained before = train_ranks(world, 0);
  const Trained two = train_ranks(world, kSteps);
  const Trained one = train_ranks(World(on_one_rank(GetParam())), kSteps);
  EXPECT_TRUE(two.ranks_agree);
  for (std::size_t step = 0; step < kSteps; ++step)
    EXPECT_NEAR(two.losses[step], one.losses[step], 1e-2) << step;
  const double ratio = distance(two.values, one.values) / distance(two.values, before.values);
  EXPECT_LT(ratio, 0.1);
}

}  // namespace
}  // namespace ftplan::executor

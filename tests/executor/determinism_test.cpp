#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "core/dtype.h"
#include "core/method.h"
#include "executor/call.h"
#include "executor/communicator.h"
#include "executor/feeding.h"
#include "models/convert.h"
#include "program/run_files.h"
#include "tests/executor/support.h"

// The same plan on the same machine gives the same bits; numbers that are not finite change
// nothing.

namespace ftplan::executor {
namespace {

constexpr std::int64_t kSteps = 5;

struct Bits {
  std::vector<std::byte> state;
  std::vector<double> losses;  // of steps and of evaluations
  friend bool operator==(const Bits&, const Bits&) = default;
};

// A whole run in memory that was full of `pattern`.
Bits train(const World& world, std::byte pattern) {
  auto run = world.create();
  poison(run->arenas().device, pattern);
  poison(run->arenas().host, pattern);
  need(run->load(*world.loader));
  Bits bits;
  const Feeder feeder = world.feeder();
  for (std::int64_t step = 0; step < kSteps; ++step) {
    bits.losses.push_back(world.train(*run, step).loss);
    for (const StepRows& rows : feeder.validation()) {
      bits.losses.push_back(need(run->evaluate(rows.length, feeder.fill_validation(rows))));
    }
  }
  bits.state = bits_of(*run);
  return bits;
}

class Determinism : public testing::TestWithParam<Setting> {};
INSTANTIATE_TEST_SUITE_P(
    Settings, Determinism,
    testing::Values(
        Setting{.accumulation = 2, .threads = 2, .validation = 0.25},
        Setting{.precision = Precision::kBf16,
                .threads = 2,
                .tied = true,
                .checkpointing = {.every = 1}},
        Setting{.precision = Precision::kBf16, .optimizer = Optimizer::kSgd, .momentum = 0.9},
        Setting{.precision = Precision::kBf16,
                .optimizer = Optimizer::kAdamw8bit,
                .threads = 2,
                .hidden = 136},
        Setting{.precision = Precision::kBf16,
                .threads = 2,
                .checkpointing = {.every = 1},
                .clip = 0,
                .update_in_backward = true},
        Setting{.precision = Precision::kFp16, .threads = 2, .loss_scale = 1024},
        Setting{.method = Method::kLora, .threads = 2, .dropout = 0.2, .validation = 0.25},
        Setting{
            .method = Method::kLora, .precision = Precision::kBf16, .checkpointing = {.every = 2}},
        Setting{.method = Method::kInt8Lora, .threads = 2, .dropout = 0.1},
        Setting{.method = Method::kInt8Lora, .precision = Precision::kFp16, .loss_scale = 1024},
        Setting{.method = Method::kQlora,
                .precision = Precision::kBf16,
                .threads = 2,
                .checkpointing = {.every = 1},
                .validation = 0.25}));

TEST_P(Determinism, TwoRunsHaveTheSameBits) {
  const World world(GetParam());
  EXPECT_EQ(train(world, std::byte{0}) == train(world, std::byte{0}), true);
}

TEST(PagedStates, GiveTheLossesAndValuesOfStatesOnTheDevice) {
  Setting setting{.precision = Precision::kBf16, .optimizer = Optimizer::kAdamw8bit, .hidden = 136};
  const World resident(setting);
  setting.optimizer = Optimizer::kPagedAdamw8bit;
  const World paged(setting);
  EXPECT_EQ(train(resident, std::byte{0}) == train(paged, std::byte{0}), true);
}

class UpdateInBackward : public testing::TestWithParam<Setting> {};
INSTANTIATE_TEST_SUITE_P(
    Settings, UpdateInBackward,
    testing::Values(Setting{.loss_chunk = 8},
                    Setting{.precision = Precision::kBf16, .tied = true, .loss_chunk = 8},
                    Setting{.precision = Precision::kBf16,
                            .optimizer = Optimizer::kAdamw8bit,
                            .layers = 5,
                            .hidden = 136,
                            .checkpointing = {.every = 2}},
                    Setting{.optimizer = Optimizer::kSgd, .checkpointing = {.every = 1}},
                    Setting{.method = Method::kLora, .dropout = 0.1},
                    Setting{.method = Method::kQlora, .checkpointing = {.every = 1}}));

TEST_P(UpdateInBackward, GivesTheBitsOfUpdatesAfterIt) {
  Setting setting = GetParam();
  setting.clip = 0;
  const World after(setting);
  setting.update_in_backward = true;
  const World inside(setting);
  EXPECT_EQ(train(after, std::byte{0}) == train(inside, std::byte{0xFF}), true);
  // Without recomputation the fullest instant may lie before the first gradient.
  if (setting.checkpointing.every == 0) return;
  EXPECT_LT(inside.create()->arenas().device.size(), after.create()->arenas().device.size());
}

TEST_P(Determinism, WhatMemoryHeldBeforeDoesNotMatter) {
  const World world(GetParam());
  const Bits clean = train(world, std::byte{0});
  for (const double loss : clean.losses) EXPECT_TRUE(std::isfinite(loss));
  // NaN in every float type, small numbers, and large ones.
  for (const std::byte pattern : {std::byte{0xFF}, std::byte{0x3C}, std::byte{0x7B}}) {
    EXPECT_EQ(train(world, pattern) == clean, true) << static_cast<int>(pattern);
  }
}

TEST_P(Determinism, TrainingLowersTheLoss) {
  // What is repeated above is training: on one batch the loss falls.
  Setting setting = GetParam();
  setting.learning_rate = 1e-2;
  setting.dropout = 0;
  setting.validation = 0;
  setting.rows = setting.micro_batch * setting.accumulation;
  const World world(setting);
  auto run = world.load();
  const double first = world.train(*run, 0).loss;
  double last = first;
  for (std::int64_t step = 1; step < 30; ++step) last = world.train(*run, step).loss;
  EXPECT_LT(last, 0.8 * first);
}

// Puts a NaN into the first weight of the checkpoint's last layer.
void spoil(const RankRun& run) {
  const auto& bindings = run.some_program().weights;
  for (const auto& binding : bindings) {
    if (!binding.per_layer) continue;
    const View weight =
        run.weight(binding, static_cast<std::int32_t>(run.setup().job.model.layers) - 1);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    models::from_f32({&nan, 1}, weight.dtype(),
                     {weight.data, static_cast<std::size_t>(size_of(weight.dtype()).value)});
    return;
  }
  FAIL() << "no weight of a layer";
}

TEST_P(Determinism, AStepThatIsNotFiniteChangesNothing) {
  const World world(GetParam());
  auto run = world.load();
  EXPECT_TRUE(world.train(*run, 0).finite);
  spoil(*run);
  const std::vector<std::byte> before = bits_of(*run);
  for (std::int64_t step = 1; step < 3; ++step) {
    const StepOutput output = world.train(*run, step);
    EXPECT_FALSE(output.finite);
    EXPECT_FALSE(std::isfinite(output.gradient_norm));
    EXPECT_EQ(bits_of(*run) == before, true);
  }
}

std::vector<std::byte> moments_of(const RankRun& run) {
  std::vector<std::byte> bits;
  for (const auto& tensor : run.state_tensors()) {
    if (tensor.part == program::StatePart::kValues) continue;
    const auto bytes = run.state(tensor);
    bits.insert(bits.end(), bytes.begin(), bytes.end());
  }
  return bits;
}

TEST(Ranks, AllLeaveOutAStepThatIsNotFiniteOnOne) {
  const World world(Setting{.ranks = 2});
  InProcessGroup group(2);
  std::vector<char> skipped(2, 0);
  std::vector<char> kept(2, 0);
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      InProcessCommunicator communicator(group, static_cast<int>(rank));
      auto run = world.load(static_cast<std::int64_t>(rank), &communicator);
      (void)world.train(*run, 0);
      if (rank == 1) spoil(*run);
      const std::vector<std::byte> before = moments_of(*run);
      skipped[rank] = world.train(*run, 1).finite ? 0 : 1;
      kept[rank] = moments_of(*run) == before ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(skipped, (std::vector<char>{1, 1}));
  EXPECT_EQ(kept, (std::vector<char>{1, 1}));
}

}  // namespace
}  // namespace ftplan::executor

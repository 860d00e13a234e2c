#include "executor/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/category.h"
#include "core/enums.h"
#include "core/method.h"
#include "core/result.h"
#include "core/units.h"
#include "executor/call.h"
#include "executor/feeding.h"
#include "executor/rank_run.h"
#include "executor/session.h"
#include "executor/torch_runtime.h"
#include "program/lower.h"
#include "program/lowering.h"
#include "program/step_program.h"
#include "tests/executor/support.h"

// The arena has exactly the bytes that a program says: one more is not there, and none is left
// over.

namespace ftplan::executor {
namespace {

using program::ProgramKind;

constexpr std::byte kPattern{0xA5};

// One rank's programs over arenas whose device part is `missing` bytes smaller than the programs
// say.
class Shrunk final : public Host {
 public:
  Shrunk(const World& world, Bytes missing)
      : world_(world),
        feeder_(world.feeder()),
        rows_(feeder_.rows_of_step(0)),
        fill_(feeder_.fill(rows_)) {
    load_ = lower({.kind = ProgramKind::kLoad});
    train_ = lower({.kind = ProgramKind::kTrain, .sequence = rows_.length});
    const auto size = [&](Place place) {
      const auto p = static_cast<std::size_t>(place);
      return std::max(load_.arena[p], train_.arena[p]);
    };
    arenas_.device = need(Arena::map(size(Place::kDevice) - missing));
    arenas_.host = need(Arena::map(size(Place::kHost)));
    install_allocator();
  }

  // Loads the model and trains one step.
  void run() {
    Scalars scalars = world_.create()->scalars_of(world_.input(0, rows_));
    const SessionOptions options{.threads = static_cast<int>(world_.machine.threads)};
    need(Session(load_, world_.machine, arenas_, *this, options).run(scalars));
    need(Session(train_, world_.machine, arenas_, *this, options).run(scalars));
  }

  Result<void> load(const program::WeightBinding& weight, std::int32_t layer, const View& to,
                    std::int64_t begin) override {
    return world_.loader->load(weight, layer, to, begin);
  }
  Result<void> store(const Call&) override { return {}; }
  Result<void> load_nf4(const program::WeightBinding& weight, std::int32_t layer,
                        const Call& call) override {
    return world_.loader->load_nf4(weight, layer, call);
  }
  Result<void> load_int8(const program::WeightBinding& weight, std::int32_t layer,
                         const Call& call) override {
    return world_.loader->load_int8(weight, layer, call);
  }
  Result<void> init_adapter(const program::AdapterBinding& adapter, std::int32_t layer,
                            const View& to) override {
    return world_.loader->init_adapter(adapter, layer, to);
  }
  Result<void> batch(std::int32_t micro_step, const std::array<View, 8>& to) override {
    fill_(micro_step, to);
    return {};
  }

 private:
  [[nodiscard]] program::StepProgram lower(const program::ProgramRequest& request) const {
    return need(program::lower(world_.job, world_.strategy, world_.machine, request));
  }

  const World& world_;
  Feeder feeder_;
  StepRows rows_;
  FillBatch fill_;
  program::StepProgram load_, train_;
  Arenas arenas_;
};

class ArenaDeath : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(ArenaDeath, FaultsOneByteBeyondItsEnd) {
  for (const std::int64_t size : {1, 64, 4096, 5000}) {
    const Arena arena = need(Arena::map(Bytes{size}));
    EXPECT_EQ(arena.size().value, (size + 63) / 64 * 64);
    volatile std::byte* end = arena.base() + arena.size().value;
    *(end - 1) = kPattern;
    EXPECT_EXIT(*end = kPattern, testing::KilledBySignal(SIGSEGV), "") << size;
  }
}

TEST_F(ArenaDeath, FaultsWhenItIsSmallerThanTheProgramSays) {
  for (const Method method : {Method::kFull, Method::kLora, Method::kQlora}) {
    const World world({.method = method});
    Shrunk(world, Bytes{}).run();
    EXPECT_EXIT(Shrunk(world, program::kAlignment).run(), testing::KilledBySignal(SIGSEGV), "")
        << to_text(method);
  }
}

TEST(Arena, ReportsItsHighestByteThatDiffers) {
  Arena arena = need(Arena::map(Bytes{256}));
  arena.fill(kPattern);
  EXPECT_EQ(arena.highest_other_than(kPattern), Bytes{});
  *(arena.base() + 100) = std::byte{0};
  EXPECT_EQ(arena.highest_other_than(kPattern), Bytes{/*index=*/100 + 1});
}

// Twice, so that a last byte that happens to equal the pattern does not count as untouched.
Bytes highest_written(const World& world, Place place, Bytes& size) {
  Bytes highest;
  for (const std::byte pattern : {kPattern, std::byte{0x5B}}) {
    auto run = world.create();
    poison(run->arenas().device, pattern);
    poison(run->arenas().host, pattern);
    need(run->load(*world.loader));
    const Feeder feeder = world.feeder();
    for (std::int64_t step = 0; step < feeder.steps_per_epoch(); ++step)
      (void)world.train(*run, step);
    for (const StepRows& rows : feeder.validation()) {
      (void)need(run->evaluate(rows.length, feeder.fill_validation(rows)));
    }
    const Arena& arena = run->arenas().of(place);
    size = arena.size();
    highest = std::max(highest, arena.highest_other_than(pattern));
  }
  return highest;
}

class HighestByte : public testing::TestWithParam<Setting> {};
INSTANTIATE_TEST_SUITE_P(
    Settings, HighestByte,
    testing::Values(
        Setting{.validation = 0.25}, Setting{.method = Method::kLora, .validation = 0.25},
        Setting{.accumulation = 2, .threads = 2, .checkpointing = {.every = 1}, .validation = 0.25},
        Setting{.method = Method::kLora, .precision = Precision::kBf16, .tied = true},
        Setting{.method = Method::kQlora, .validation = 0.25},
        Setting{.optimizer = Optimizer::kSgd, .momentum = 0.9},
        Setting{.clip = 0, .update_in_backward = true},
        Setting{.optimizer = Optimizer::kAdamw8bit, .hidden = 136},
        Setting{.optimizer = Optimizer::kPagedAdamw8bit, .hidden = 136}));

TEST_P(HighestByte, IsTheLastOfTheArena) {
  const World world(GetParam());
  for (const Place place : {Place::kDevice, Place::kHost}) {
    Bytes size;
    const Bytes highest = highest_written(world, place, size);
    // The last storage is padded to the alignment; its own last byte lies in the last line.
    EXPECT_GT(highest, size - program::kAlignment) << to_text(place);
    EXPECT_LE(highest, size);
  }
}

}  // namespace
}  // namespace ftplan::executor

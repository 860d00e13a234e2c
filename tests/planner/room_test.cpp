#include "planner/room.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/data_options.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/plan.h"
#include "core/strategy.h"
#include "core/units.h"
#include "planner/search.h"

namespace ftplan::planner {
namespace {

const std::optional<DataFacts> kNone;

// Room for as many devices and tokens as the tests ask for.
Job small_job(Method method, const std::string& devices, std::vector<double> memory = {}) {
  ModelConfig model;
  model.name = "small";
  model.vocabulary = 512;
  model.hidden = 128;
  model.intermediate = 256;
  model.layers = 4;
  model.heads = 4;
  model.kv_heads = 2;
  model.head_size = 32;
  model.positions = 1024;
  JobRequest request;
  request.model = "small";
  request.method.method = method;
  request.devices.gpus = devices;
  request.devices.memory = std::move(memory);
  request.data.seq = 64;
  request.training.micro_batch = 1;
  request.training.accumulation = 1;
  auto job = validate(request, model, kNone);
  EXPECT_TRUE(job.ok()) << job.error().text();
  return *job;
}

Machine gpu_with(std::optional<Bytes> memory) {
  Machine machine{.name = "toy", .backend = Backend::kCuda, .device_memory = memory};
  machine.runtime = Bytes{1000};
  return machine;
}

Evaluation evaluated(const Job& job, const Strategy& strategy, const Machine& machine) {
  auto result = evaluate({job, machine, kNone}, strategy);
  EXPECT_TRUE(result.ok()) << result.error().text();
  return *result;
}

Bytes need_of_small(const Job& job, const Strategy& strategy) {
  return evaluated(job, strategy, gpu_with(std::nullopt)).judgement.need;
}

TEST(RoomLeft, IsTheLargestDoublingThatFits) {
  const Job job = small_job(Method::kLora, "toy");
  const Strategy full{.checkpointing = {1}};
  Strategy four = full;
  four.micro_batch = 4;
  Strategy eight = full;
  eight.micro_batch = 8;
  // Between four and eight rows.
  const Machine machine =
      gpu_with(Bytes{(need_of_small(job, four).value + need_of_small(job, eight).value) / 2});
  const auto room = room_left({job, machine, kNone}, evaluated(job, full, machine));
  ASSERT_TRUE(room.ok());
  ASSERT_TRUE(room->micro_batch.has_value());
  EXPECT_EQ(room->micro_batch->value, 4);
  EXPECT_EQ(room->micro_batch->need, need_of_small(job, four));
  ASSERT_TRUE(room->sequence.has_value());
  EXPECT_GE(room->sequence->value, 128);
  EXPECT_LE(room->sequence->need, *machine.device_memory);
}

TEST(RoomLeft, IsEmptyWhereNotEvenTwiceFits) {
  const Job job = small_job(Method::kLora, "toy");
  const Strategy full{.checkpointing = {1}};
  const Machine machine = gpu_with(need_of_small(job, full));
  const auto room = room_left({job, machine, kNone}, evaluated(job, full, machine));
  ASSERT_TRUE(room.ok());
  EXPECT_FALSE(room->micro_batch.has_value());
  EXPECT_FALSE(room->sequence.has_value());
  EXPECT_FALSE(room->kept.has_value());
}

TEST(RoomLeft, TellsWhatItTakesToRecomputeNothing) {
  const Job job = small_job(Method::kLora, "toy");
  const Bytes kept = need_of_small(job, {});
  const Machine machine = gpu_with(kept);
  const auto room =
      room_left({job, machine, kNone}, evaluated(job, {.checkpointing = {1}}, machine));
  ASSERT_TRUE(room.ok());
  EXPECT_EQ(room->kept, kept);
  EXPECT_FALSE(room_left({job, machine, kNone}, evaluated(job, {}, machine))->kept.has_value());
}

TEST(FewestDevices, ShareStatesUntilTheyFit) {
  const Strategy like{.checkpointing = {1}};
  const auto need_on = [&](std::int64_t devices) {
    const Job job = small_job(Method::kFull, std::to_string(devices) + "xtoy");
    return need_of_small(job, {.checkpointing = {1}, .zero = job.zero_choices.back()});
  };
  ASSERT_LT(need_on(4), need_on(2));
  const Machine machine = gpu_with(need_on(4));
  const Job job = small_job(Method::kFull, "8xtoy");
  const auto fewest = fewest_devices({job, machine, kNone}, like, 1, 7);
  ASSERT_TRUE(fewest.ok()) << fewest.error().text();
  ASSERT_TRUE(fewest->has_value());
  EXPECT_EQ((*fewest)->devices, 4);
  EXPECT_LE((*fewest)->evaluation.judgement.need, *machine.device_memory);
  EXPECT_FALSE(fewest_devices({job, machine, kNone}, like, 1, 3)->has_value());
}

TEST(FewestDevices, BeyondOneNodeAreWholeNodes) {
  const Job job = small_job(Method::kFull, "3xtoy");
  const Machine machine = gpu_with(Bytes{1} * (std::int64_t{1} << 40));
  // Of 2, 4, 8, ... none above three is a multiple of three.
  EXPECT_FALSE(fewest_devices({job, machine, kNone}, {}, 4, 64)->has_value());
  EXPECT_EQ((*fewest_devices({job, machine, kNone}, {}, 2, 2))->devices, 2);
}

TEST(Evaluate, NamesTheRankWithTheLeastRoom) {
  const Job job = small_job(Method::kLora, "3xtoy", {4, 1, 2});
  const Machine machine = gpu_with(kGiB);
  for (const std::int64_t zero : job.zero_choices) {
    const Evaluation worst = evaluated(job, {.zero = zero}, machine);
    EXPECT_EQ(worst.prediction.rank, 1) << "ZeRO-" << zero;
    EXPECT_EQ(worst.judgement.limit, kGiB);
  }
}

class Methods : public testing::TestWithParam<Method> {};
INSTANTIATE_TEST_SUITE_P(All, Methods,
                         testing::Values(Method::kFull, Method::kLora, Method::kInt8Lora,
                                         Method::kQlora));

// `evaluate` lets the second rank stand for those between the first and the last.
TEST_P(Methods, RanksInTheMiddleNeedWhatTheSecondNeeds) {
  const Machine machine = gpu_with(kGiB);
  for (const Optimizer optimizer : {Optimizer::kAdamw, Optimizer::kAdamw8bit}) {
    Job job = small_job(GetParam(), "5xtoy");
    job.request.method.optimizer = optimizer;
    for (const std::int64_t zero : job.zero_choices) {
      const Strategy strategy{.checkpointing = {1}, .zero = zero};
      const auto alone = [&](std::int64_t rank) {
        auto prediction = estimator::predict_rank({job, strategy, machine, kNone}, rank);
        EXPECT_TRUE(prediction.ok()) << prediction.error().text();
        prediction->rank = 0;
        return *prediction;
      };
      EXPECT_EQ(alone(2), alone(1)) << "ZeRO-" << zero;
      EXPECT_EQ(alone(3), alone(1)) << "ZeRO-" << zero;
    }
  }
}

TEST(PredictRanks, OfEachRankIsThatOfTheRankAlone) {
  const Job job = small_job(Method::kFull, "4xtoy");
  const Machine machine = gpu_with(kGiB);
  const Strategy strategy{.zero = job.zero_choices.back()};
  const auto all = estimator::predict_ranks({job, strategy, machine, kNone}, {0, 1, 2, 3});
  ASSERT_TRUE(all.ok()) << all.error().text();
  ASSERT_EQ(all->size(), 4U);
  for (const RankPrediction& prediction : *all) {
    EXPECT_EQ(prediction,
              *estimator::predict_rank({job, strategy, machine, kNone}, prediction.rank));
  }
}

}  // namespace
}  // namespace ftplan::planner

#include "planner/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/data_options.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/method.h"
#include "core/plan.h"
#include "core/strategy.h"
#include "core/units.h"
#include "models/presets.h"
#include "planner/cut.h"
#include "planner/explain.h"
#include "planner/search.h"

namespace ftplan::planner {
namespace {

const std::optional<DataFacts> kNoFacts;

ModelConfig toy_model() {
  ModelConfig model;
  model.name = "toy";
  model.vocabulary = 96;
  model.hidden = 32;
  model.intermediate = 64;
  model.layers = 6;
  model.heads = 4;
  model.kv_heads = 2;
  model.head_size = 8;
  model.positions = 256;
  return model;
}

JobRequest toy_request() {
  JobRequest request;
  request.model = "toy";
  request.method.rank = 2;
  request.method.precision = Precision::kFp32;
  request.training.global_batch = 8;
  request.layout.loss_chunk = 64;
  return request;
}

Job job_of(const JobRequest& request) {
  auto job = validate(request, toy_model(), kNoFacts);
  EXPECT_TRUE(job.ok()) << job.error().text();
  return *job;
}

Machine cpu_with(Bytes memory) {
  Machine machine;
  machine.device_memory = memory;
  return machine;
}

Bytes need_of(const Job& job, const Strategy& strategy) {
  return evaluate({job, Machine{}, kNoFacts}, strategy)->judgement.need;
}

std::variant<Plan, Infeasible> plan(const Job& job, const Machine& machine,
                                    const std::optional<DataFacts>& facts = kNoFacts) {
  auto made = make_plan({job, machine, facts});
  EXPECT_TRUE(made.ok()) << made.error().text();
  return *made;
}

TEST(MakePlan, WithEnoughMemoryNothingIsRecomputedAndTheBatchIsWhole) {
  const Job job = job_of(toy_request());
  const auto made = std::get<Plan>(plan(job, cpu_with(kGiB)));
  EXPECT_EQ(made.strategy.checkpointing.every, 0);
  EXPECT_EQ(made.strategy.micro_batch, 8);
  EXPECT_EQ(made.strategy.accumulation, 1);
  EXPECT_EQ(made.fits, Fits::kYes);
}

TEST(MakePlan, ASmallerBatchComesBeforeRecomputation) {
  const Job job = job_of(toy_request());
  const Bytes four = need_of(job, strategy_of(job, {.every = 0}, 0, 4));
  const auto made = std::get<Plan>(plan(job, cpu_with(four)));
  EXPECT_EQ(made.strategy, strategy_of(job, {.every = 0}, 0, 4));
  const auto less = std::get<Plan>(plan(job, cpu_with(four - Bytes{1})));
  EXPECT_EQ(less.strategy, strategy_of(job, {.every = 0}, 0, 2));
}

TEST(MakePlan, RecomputesWhenNoBatchFitsWithout) {
  const Job job = job_of(toy_request());
  const Bytes one = need_of(job, strategy_of(job, {.every = 0}, 0, 1));
  const auto made = std::get<Plan>(plan(job, cpu_with(one - Bytes{1})));
  EXPECT_EQ(made.strategy.checkpointing.every, 1);
  ASSERT_FALSE(made.runners_up.empty());
  EXPECT_EQ(made.runners_up.front().lost_by, "does not fit");
}

// All ways to write `layers` as a sum of `stages` positive numbers.
void for_each_cut(std::int64_t layers, std::int64_t stages, std::vector<std::int64_t>& cut,
                  const std::function<void()>& visit) {
  if (stages == 1) {
    cut.push_back(layers);
    visit();
    cut.pop_back();
    return;
  }
  for (std::int64_t first = 1; first <= layers - (stages - 1); ++first) {
    cut.push_back(first);
    for_each_cut(layers - first, stages - 1, cut, visit);
    cut.pop_back();
  }
}

TEST(WithStages, LeavesAsMuchRoomAsTheBestOfAllCuts) {
  for (const std::int64_t vocabulary : {64, 2048, 20000}) {
    for (const std::int64_t stages : {2, 3, 4}) {
      JobRequest request = toy_request();
      request.devices.gpus = std::to_string(stages) + "xcpu";
      request.layout.pipeline = Pipeline::kNaive;
      ModelConfig model = toy_model();
      model.layers = 9;
      model.vocabulary = vocabulary;
      const Job job = *validate(request, model, kNoFacts);
      Strategy strategy = strategy_of(job, {.every = 1}, 0, 1);
      const auto chosen = with_stages({job, Machine{}, kNoFacts}, strategy);
      ASSERT_TRUE(chosen.ok());
      Bytes least = need_of(job, *chosen);
      const Bytes found = least;
      for_each_cut(model.layers, stages, strategy.stage_layers,
                   [&] { least = std::min(least, need_of(job, strategy)); });
      EXPECT_EQ(found, least) << vocabulary << " words, " << stages << " stages";
    }
  }
}

TEST(MakePlan, APipelineHasAStageOnEachDevice) {
  JobRequest request = toy_request();
  request.devices.gpus = "3xcpu";
  request.layout.pipeline = Pipeline::kNaive;
  ModelConfig model = toy_model();
  model.layers = 4;
  const Job job = *validate(request, model, kNoFacts);
  const auto made = std::get<Plan>(plan(job, cpu_with(kGiB)));
  ASSERT_EQ(made.layout.size(), 3U);
  ASSERT_EQ(made.predicted.size(), 3U);
  ASSERT_EQ(made.digests.programs.size(), 3U);
  for (std::int64_t rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(made.layout[static_cast<std::size_t>(rank)].stage, rank);
    EXPECT_EQ(made.layout[static_cast<std::size_t>(rank)].data_parallel, 0);
  }
  EXPECT_EQ(made.strategy.micro_batch * made.strategy.accumulation, job.global_batch);
  EXPECT_EQ(made.strategy.stage_layers.size(), 3U);
}

// The search is a bisection; this is the same order tried one by one.
TEST(MakePlan, EqualsTryingEverythingInOrder) {
  std::mt19937_64 random(7);
  const Job job = job_of(toy_request());
  const Bytes low = need_of(job, strategy_of(job, {.every = 1}, 0, 1));
  const Bytes high = need_of(job, strategy_of(job, {.every = 0}, 0, 8));
  std::vector<std::pair<Strategy, Bytes>> in_order;
  for (const Checkpointing checkpointing : job.checkpointing_choices) {
    for (const std::int64_t micro : job.micro_batch_choices) {
      const Strategy tried = strategy_of(job, checkpointing, 0, micro);
      in_order.emplace_back(tried, need_of(job, tried));
    }
  }
  for (int i = 0; i < 30; ++i) {
    const Bytes memory{std::uniform_int_distribution<std::int64_t>(low.value, high.value)(random)};
    const auto expected = std::find_if(in_order.begin(), in_order.end(),
                                       [&](const auto& tried) { return tried.second <= memory; });
    ASSERT_NE(expected, in_order.end());
    EXPECT_EQ(std::get<Plan>(plan(job, cpu_with(memory))).strategy, expected->first)
        << memory.value;
  }
}

TEST(MakePlan, NeedGrowsWithTheMicroBatch) {
  for (const Method method : {Method::kFull, Method::kLora}) {
    for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16}) {
      JobRequest request = toy_request();
      request.method.method = method;
      request.method.precision = precision;
      const Job job = job_of(request);
      for (const std::int64_t every : {0, 1, 2}) {
        Bytes before;
        for (const std::int64_t micro : {1, 2, 4, 8}) {
          const Bytes need = need_of(job, strategy_of(job, {.every = every}, 0, micro));
          EXPECT_GE(need, before) << to_text(method) << " every " << every << " micro " << micro;
          before = need;
        }
      }
    }
  }
}

TEST(MakePlan, IsTheSameBytesEachTimeAndReadsBack) {
  const Job job = job_of(toy_request());
  const auto made = std::get<Plan>(plan(job, cpu_with(kGiB)));
  const std::string text = render_plan(made);
  EXPECT_EQ(text, render_plan(std::get<Plan>(plan(job, cpu_with(kGiB)))));
  const auto back = read_plan(text, "plan.json");
  ASSERT_TRUE(back.ok()) << back.error().text();
  EXPECT_EQ(*back, made);
}

TEST(MakePlan, WhatThisHostHasFreeIsNotPartOfAPlan) {
  const Job job = job_of(toy_request());
  const auto made = std::get<Plan>(plan(job, cpu_with(kGiB)));
  EXPECT_FALSE(made.machine.device_memory.has_value());
  EXPECT_EQ(render_plan(made), render_plan(std::get<Plan>(plan(job, cpu_with(kGiB + kMiB)))));
}

TEST(MakePlan, MemoryThatWasAskedForIsPartOfAPlanAndOfItsReasons) {
  JobRequest request = toy_request();
  request.devices.memory = {1};
  const Job job = job_of(request);
  const auto made = std::get<Plan>(plan(job, cpu_with(kGiB)));
  EXPECT_EQ(made.machine.device_memory, kGiB);
  const Bytes one = need_of(job, strategy_of(job, {.every = 0}, 0, 1));
  const auto less = std::get<Plan>(plan(job, cpu_with(one - Bytes{1})));
  EXPECT_EQ(less.runners_up.front().lost_by, "does not fit: short by 1 B");
}

TEST(MakePlan, StepsAreThoseOfTheEpochs) {
  JobRequest request = toy_request();
  request.training.epochs = 1.5;
  const std::optional<DataFacts> facts =
      DataFacts{.rows = 20, .longest = 60, .lengths = {{64, 20}}};
  const auto job = validate(request, toy_model(), facts);
  ASSERT_TRUE(job.ok());
  // ceil(20 rows / 8) = 3 steps an epoch; ceil(1.5 * 3) = 5
  EXPECT_EQ(std::get<Plan>(plan(*job, cpu_with(kGiB), facts)).steps, 5);
  request.training.steps = 7;
  const auto fixed = validate(request, toy_model(), facts);
  EXPECT_EQ(std::get<Plan>(plan(*fixed, cpu_with(kGiB), facts)).steps, 7);
  EXPECT_EQ(count_steps(job_of(toy_request()), kNoFacts), 0);
}

TEST(MakePlan, OfMeasuredScratchKeepsWhatItsProgramsUse) {
  JobRequest request = toy_request();
  request.method.precision = Precision::kBf16;
  const Job job = job_of(request);
  Machine machine = cpu_with(kGiB);
  const Strategy strategy = strategy_of(job, {.every = 0}, 0, 8);
  const auto keys = estimator::operations_to_measure({job, strategy, machine, kNoFacts}, 0);
  ASSERT_TRUE(keys.ok());
  ASSERT_FALSE(keys->empty());
  for (const std::string& key : *keys) machine.scratch.push_back({key, Bytes{4096}});
  machine.scratch.push_back({"zz of another run", Bytes{1}});
  const auto made = std::get<Plan>(plan(job, machine));
  EXPECT_EQ(made.strategy, strategy);
  EXPECT_EQ(made.machine.scratch.size(), keys->size());
  EXPECT_EQ(made.predicted.front().basis, Basis::kExecuted);
  EXPECT_EQ(made.predicted.front().uncertainty, Bytes{});
}

TEST(MakePlan, TwoRanksShardAndHaveAProgramEach) {
  JobRequest request = toy_request();
  request.devices.gpus = "2xcpu";
  request.layout.zero = 1;
  const auto made = std::get<Plan>(plan(job_of(request), cpu_with(kGiB)));
  EXPECT_EQ(made.layout.size(), 2U);
  EXPECT_EQ(made.digests.programs.size(), 2U);
  ASSERT_EQ(made.predicted.size(), 2U);
  EXPECT_EQ(made.predicted[0].device, made.predicted[1].device);
  request.layout.zero = 0;
  const auto whole = std::get<Plan>(plan(job_of(request), cpu_with(kGiB)));
  EXPECT_LT(made.predicted[0].device.optimizer, whole.predicted[0].device.optimizer);
}

TEST(MakePlan, WhatDoesNotFitSaysByHowMuchAndWhatWould) {
  JobRequest request = toy_request();
  const Job job = job_of(request);
  const Strategy smallest = strategy_of(job, {.every = 1}, 0, 1);
  const Bytes limit = need_of(job, smallest) - Bytes{100};
  const auto answer = std::get<Infeasible>(plan(job, cpu_with(limit)));
  EXPECT_EQ(answer.best_strategy, smallest);
  EXPECT_EQ(answer.deficit, Bytes{100});
  EXPECT_EQ(answer.limit, limit);
  EXPECT_FALSE(answer.smallest_change.empty());
}

TEST(MakePlan, TheChangeThatItNamesFits) {
  JobRequest request = toy_request();
  request.layout.checkpointing = Checkpointing{.every = 0};
  const Job job = job_of(request);
  const Bytes limit = need_of(job, strategy_of(job, {.every = 1}, 0, 1));
  const auto answer = std::get<Infeasible>(plan(job, cpu_with(limit)));
  EXPECT_EQ(answer.smallest_change, "--checkpointing full");
}

TEST(MakePlan, WhenNoFlagIsEnoughItSaysWhichDevicesAre) {
  const auto answer = std::get<Infeasible>(plan(job_of(toy_request()), cpu_with(Bytes{1000})));
  EXPECT_NE(answer.smallest_change.find("none of the flags is enough"), std::string::npos)
      << answer.smallest_change;
}

TEST(MakePlan, NamesTheLargestLine) {
  PlaceBytes bytes;
  bytes.weights = {5};
  bytes.optimizer = {7};
  bytes.unused = {9};
  EXPECT_EQ(biggest_category(bytes), Category::kOptimizer);
}

TEST(WhatIfs, OtherKnobsAreMeasuredAgainstThePlan) {
  const auto made = std::get<Plan>(plan(job_of(toy_request()), cpu_with(kGiB)));
  const auto list = what_ifs(made);
  ASSERT_TRUE(list.ok()) << list.error().text();
  const auto of = [&](const std::string& flags) -> const WhatIf& {
    return *std::find_if(list->begin(), list->end(),
                         [&](const WhatIf& w) { return w.flags == flags; });
  };
  EXPECT_LT(of("--checkpointing full").difference, Bytes{});
  EXPECT_LT(of("--micro-batch 4").difference, Bytes{});
  EXPECT_GT(of("--rank 4").difference, Bytes{});
  for (const WhatIf& change : *list) {
    EXPECT_EQ(change.peak, made.predicted.front().device.peak + change.difference) << change.flags;
  }
}

TEST(Validate, RefusesPipelinesThatAreNone) {
  JobRequest request = toy_request();
  request.layout.pipeline = Pipeline::kNaive;
  request.method.method = Method::kFull;
  ModelConfig model = toy_model();
  model.layers = 2;
  const auto error = [&] { return validate(request, model, kNoFacts).error().text(); };
  EXPECT_EQ(error(), "--pipeline: got naive on one device: leave it out, or give more devices");
  request.devices.gpus = "3xcpu";
  EXPECT_EQ(error(),
            "--pipeline: got naive on 3 devices, but toy has 2 layers: give fewer devices");
  request.devices.gpus = "2xcpu";
  EXPECT_TRUE(validate(request, model, kNoFacts).ok());
  request.layout.zero = 1;
  EXPECT_EQ(error(),
            "--pipeline: ZeRO over the stages of a pipeline is not built yet: use --zero 0");
  request.layout.zero = 0;
  request.layout.pipeline = Pipeline::k1F1B;
  EXPECT_EQ(error(), "--pipeline: 1f1b is not built yet: use naive");
  request.layout.pipeline = Pipeline::kNaive;
  model.tied_embeddings = true;
  EXPECT_EQ(error(),
            "--pipeline: an embedding that is the head, too, and learns is not built yet: leave "
            "the pipeline out, or train adapters");
  request.method.method = Method::kLora;
  EXPECT_TRUE(validate(request, model, kNoFacts).ok());
}

TEST(Validate, Llama2Of70BillionAtRankFourTrainsWhatItsMatricesHold) {
  const models::Preset* preset = models::find_preset("llama2-70b");
  ASSERT_NE(preset, nullptr);
  JobRequest request;
  request.method.rank = 4;
  request.method.targets = {"q_proj", "k_proj", "v_proj", "o_proj"};
  request.training.global_batch = 1;
  const auto job = validate(request, preset->config, kNoFacts);
  ASSERT_TRUE(job.ok());
  const auto evaluation =
      evaluate({*job, Machine{}, kNoFacts}, strategy_of(*job, {.every = 1}, 0, 1));
  ASSERT_TRUE(evaluation.ok());
  // q and o: 8192 + 8192; k and v: 8192 + 8 * 128; rank 4, 80 layers
  const std::int64_t trained = 80 * 4 * std::int64_t{2 * (8192 + 8192) + 2 * (8192 + 1024)};
  EXPECT_EQ(trained, 16'384'000);
  EXPECT_EQ(estimator::trainable_parameters(*job), trained);
  EXPECT_EQ(evaluation->prediction.device.adapters.value, 4 * trained);
}

}  // namespace
}  // namespace ftplan::planner

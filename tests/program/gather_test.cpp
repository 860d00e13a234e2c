#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/category.h"
#include "core/dtype.h"
#include "core/job.h"
#include "core/method.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/units.h"
#include "models/presets.h"
#include "program/attributes.h"
#include "program/lifetimes.h"
#include "program/lower.h"
#include "program/lowering.h"
#include "program/occupancy.h"
#include "program/op.h"
#include "program/step_program.h"
#include "program/verify.h"
#include "program/walk.h"
#include "tests/program/support.h"

// ZeRO-3: what ranks keep of the weights, when they are put together, and for how long.

namespace ftplan::program {
namespace {

constexpr std::int64_t kStackLayers = 7;

ModelConfig toy_stack() {
  ModelConfig model = toy_model();
  model.layers = kStackLayers;
  return model;
}

Case on_two_ranks(Strategy strategy, JobRequest request = toy_request()) {
  request.devices.gpus = "2xcpu";
  strategy.zero = 3;
  return make_case(std::move(request), toy_stack(), strategy);
}

JobRequest lora(Method method) {
  JobRequest request = toy_request();
  request.method = {.method = method, .rank = 2, .precision = Precision::kBf16};
  return request;
}

StepProgram lower_kind(const Case& c, ProgramKind kind, std::int64_t rank = 0) {
  auto program = lower(c.job, c.strategy, c.machine, {.kind = kind, .rank = rank, .cache = 16});
  EXPECT_TRUE(program.ok());
  return std::move(*program);
}

Bytes held(const StepProgram& program, const char* name) {
  Bytes sum;
  for (const GatheredUnit& unit : program.gathered) {
    if (std::string(unit.name) == name) sum += accounted(program.storage_of(unit.whole));
  }
  return sum;
}

// The most bytes that are gathered at a time.
Bytes gathered_peak(const StepProgram& program) {
  const Walk steps = walk(program, Sampling::kAll);
  std::int64_t most = 0;
  for (const CategoryCounts& live :
       occupancy(program, steps, lives_of(program, steps), Place::kDevice))
    most = std::max(most, live[static_cast<std::size_t>(Category::kGathered)]);
  return {most};
}

std::int64_t gathers(const StepProgram& program) {
  std::int64_t count = 0;
  for (const Step& step : walk(program, Sampling::kAll).steps) {
    const Instruction& instruction = program.instruction(step.instruction);
    count += instruction.stream == Stream::kGather && instruction.op == Op::kAllGather ? 1 : 0;
  }
  return count;
}

class Window : public testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(Prefetch, Window, testing::Values(0, 1, 2, 3, 20));

TEST_P(Window, HoldsTheLargestSumOfConsecutiveUnits) {
  const std::int64_t ahead = std::min(GetParam(), kStackLayers - 1);
  for (const std::int64_t every : {0, 1, 3}) {
    const Case c =
        on_two_ranks({.accumulation = 2, .checkpointing = {every}, .prefetch = GetParam()});
    for (const ProgramKind kind :
         {ProgramKind::kTrain, ProgramKind::kEvaluate, ProgramKind::kDecode}) {
      const StepProgram program = lower_kind(c, kind);
      EXPECT_EQ(verify_program(program), "");
      const Bytes layer = held(program, "layer");
      EXPECT_EQ(gathered_peak(program),
                std::max({held(program, "embedding") + ahead * layer, (ahead + 1) * layer,
                          ahead * layer + held(program, "head")}))
          << every;
    }
  }
}

TEST(Gather, LayersAreGatheredInBothDirectionsOfEachMicroStep) {
  for (const std::int64_t accumulation : {1, 3}) {
    const StepProgram program =
        lower_case(on_two_ranks({.accumulation = accumulation, .checkpointing = {.every = 1}}));
    EXPECT_EQ(gathers(program), accumulation * (/*embedding, head*/ 2 + 2 * kStackLayers));
  }
}

TEST(Gather, TheLastLayerOfAGroupIsGatheredOnceForRecomputationAndBackward) {
  const StepProgram program = lower_case(on_two_ranks({.checkpointing = {.every = 3}}));
  EXPECT_EQ(gathers(program),
            /*embedding, head*/ 2 + kStackLayers + /*groups of 3, 3, 1*/ 5 + 5 + 1);
}

TEST(Gather, NothingIsGatheredAfterTheUpdate) {
  const StepProgram program = lower_case(on_two_ranks({}));
  for (const Instruction& instruction : program.instructions) {
    EXPECT_FALSE(instruction.op == Op::kAllGather && instruction.phase == Phase::kOptimizer);
  }
}

TEST(Gather, SmallUnitsStayWhole) {
  const Case c = on_two_ranks({.persist_below = 100'000});
  const StepProgram program = lower_case(c);
  EXPECT_TRUE(program.gathered.empty());
  EXPECT_EQ(gathers(program), 0);
  EXPECT_EQ(verify_ranks(lower_ranks(c)), "");
}

TEST(Gather, ProgramsOfAllKindsAreWhatTheyMustBe) {
  for (const Method method : {Method::kFull, Method::kLora, Method::kQlora, Method::kInt8Lora}) {
    JobRequest request = method == Method::kFull ? toy_request() : lora(method);
    if (method != Method::kFull) request.method.targets = {"all-linear", "embed_tokens", "lm_head"};
    const Case c = on_two_ranks({}, request);
    for (const ProgramKind kind :
         {ProgramKind::kLoad, ProgramKind::kTrain, ProgramKind::kEvaluate, ProgramKind::kPrefill,
          ProgramKind::kDecode, ProgramKind::kSave}) {
      std::vector<StepProgram> ranks;
      for (std::int64_t rank = 0; rank < 2; ++rank) ranks.push_back(lower_kind(c, kind, rank));
      EXPECT_EQ(verify_ranks(ranks), "") << static_cast<int>(kind);
    }
  }
}

TEST(Gather, ARankLoadsItsPartOfPlainWeightsAndNothingElse) {
  const Case c = on_two_ranks({});
  std::int64_t loaded = 0;
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const StepProgram program = lower_kind(c, ProgramKind::kLoad, rank);
    for (const Step& step : walk(program, Sampling::kAll).steps) {
      const Instruction& instruction = program.instruction(step.instruction);
      if (instruction.op != Op::kLoad) continue;
      EXPECT_EQ(program.storage_of(instruction.out[0].tensor).region, Region::kPersistent);
      loaded += program.tensor(instruction.out[0]).shape.elements();
    }
    const auto device = static_cast<std::size_t>(Place::kDevice);
    EXPECT_EQ(program.arena[device], program.persistent[device]);
  }
  EXPECT_EQ(loaded, models::count_parameters(c.job.model));
}

TEST(Gather, OfPackedWeightsOneLayerIsWholeAtATime) {
  const StepProgram load =
      lower_kind(on_two_ranks({.prefetch = 0}, lora(Method::kQlora)), ProgramKind::kLoad);
  EXPECT_EQ(gathered_peak(load), std::max(held(load, "quantized layer"), held(load, "adapters")));
}

// ---- by hand: eight devices of Llama-2-70B ----

struct Kept {
  Bytes weights, states;
};

// Bytes that a rank keeps of weights and adapters, and of all model states.
Kept kept_of_llama2_70b(Method method) {
  JobRequest request;
  request.method.method = method;
  request.method.precision = Precision::kBf16;
  request.data.seq = 2048;
  request.devices.gpus = "8xcpu";
  const Case c = make_case(request, models::find_preset("llama2-70b")->config,
                           {.checkpointing = {.every = 1}, .zero = 3, .loss_chunk = 2048});
  Kept kept;
  for (const Storage& storage : lower_case(c).storages) {
    const Bytes bytes = storage.copies.count * storage.size;
    const bool weights =
        storage.category == Category::kWeights || storage.category == Category::kAdapters;
    const bool lives =
        storage.region == Region::kPersistent || storage.region == Region::kGradients;
    if (weights && lives) kept.weights += bytes;
    const bool state =
        storage.category == Category::kGradients || storage.category == Category::kOptimizer;
    if ((weights || state) && lives) kept.states += bytes;
  }
  return kept;
}

constexpr std::int64_t kLlamaParameters = 68'976'648'192;
constexpr std::int64_t kLlamaDevices = 8;

TEST(Llama2On8Devices, KeepSixteenBytesAParameterInFullFineTuning) {
  // bf16 weight and gradient, f32 master and two moments: 1.104 TB, 128.5 GiB on each. The loss of
  // all tokens at once: over several chunks the head's gradient is f32.
  EXPECT_EQ(kept_of_llama2_70b(Method::kFull).states.value,
            (2 + 2 + 4 + 8) * kLlamaParameters / kLlamaDevices);
}

TEST(Llama2On8Devices, KeepAnEighthOfBaseAndAdapters) {
  const std::int64_t of_a_layer = 16 * (/*q, o*/ 2 * (8192 + 8192) + /*k, v*/ 2 * (8192 + 1024) +
                                        /*gate, up, down*/ 3 * (8192 + 28672));
  EXPECT_EQ(
      kept_of_llama2_70b(Method::kLora).weights.value,
      (/*bf16*/ 2 * kLlamaParameters + /*f32*/ 4 * 80 * of_a_layer) / kLlamaDevices);  // 16.16 GiB
}

TEST(Llama2On8Devices, KeepAnEighthOfPackedBytes) {
  // 0.515869 bytes a quantized parameter, 16-bit embedding, head and norms, f32 adapters.
  const double linears = 80 * (2.0 * 8192 * 8192 + 2.0 * 8192 * 1024 + 3.0 * 8192 * 28672);
  const double whole = 0.515869 * linears + 2 * (static_cast<double>(kLlamaParameters) - linears) +
                       4 * 80 * 2'588'672.0;
  const double kept = static_cast<double>(kept_of_llama2_70b(Method::kQlora).weights.value);
  EXPECT_NEAR(kept, whole / kLlamaDevices, 1e-5 * kept);
  EXPECT_NEAR(kept / static_cast<double>(kGiB.value), 4.33, 0.005);
}

}  // namespace
}  // namespace ftplan::program

#include "estimator/predict.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/category.h"
#include "core/data_options.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/plan.h"
#include "core/strategy.h"
#include "core/units.h"
#include "models/presets.h"
#include "program/lower.h"
#include "program/lowering.h"

namespace ftplan::estimator {
namespace {

constexpr std::int64_t kVocabulary = 96;
constexpr std::int64_t kHidden = 16;
constexpr std::int64_t kLayers = 3;
const std::optional<DataFacts> kNoFacts;

ModelConfig toy_model() {
  ModelConfig model;
  model.name = "toy";
  model.vocabulary = kVocabulary;
  model.hidden = kHidden;
  model.intermediate = 24;
  model.layers = kLayers;
  model.heads = 4;
  model.kv_heads = 2;
  model.head_size = 4;
  model.positions = 64;
  return model;
}

JobRequest toy_request() {
  JobRequest request;
  request.model = "toy";
  request.method.rank = 2;
  request.method.precision = Precision::kFp32;
  request.training.global_batch = 2;
  request.layout.loss_chunk = 8;
  return request;
}

Job job_of(const JobRequest& request, const ModelConfig& model) {
  auto job = validate(request, model, kNoFacts);
  EXPECT_TRUE(job.ok()) << job.error().text();
  return *job;
}

RankPrediction predict(const Job& job, const Strategy& strategy, const Machine& machine = {}) {
  auto prediction = predict_rank({job, strategy, machine, kNoFacts}, 0);
  EXPECT_TRUE(prediction.ok()) << prediction.error().text();
  return *prediction;
}

Bytes sum_of_lines(const PlaceBytes& bytes) { return bytes.live() + bytes.runtime + bytes.unused; }

class Methods : public testing::TestWithParam<Method> {};
INSTANTIATE_TEST_SUITE_P(All, Methods,
                         testing::Values(Method::kFull, Method::kLora, Method::kQlora));

TEST_P(Methods, LinesAddUpToThePeakInEveryPlace) {
  JobRequest request = toy_request();
  request.method.method = GetParam();
  const Job job = job_of(request, toy_model());
  for (const std::int64_t every : {0, 1, 2}) {
    const RankPrediction p =
        predict(job, {.micro_batch = 2, .checkpointing = {every}, .loss_chunk = 8});
    EXPECT_EQ(sum_of_lines(p.device), p.device.peak);
    EXPECT_EQ(sum_of_lines(p.host), p.host.peak);
    EXPECT_EQ(sum_of_lines(p.disk), p.disk.peak);
    EXPECT_EQ(p.arena, p.device.peak);
    EXPECT_EQ(p.device.scratch, p.scratch);
    EXPECT_GE(p.arena, p.lower_bound + p.scratch);
    EXPECT_GT(p.lower_bound, p.persistent);
  }
}

TEST(PredictRank, IsExactInF32OnCpuAndABoundInUnmeasuredBf16) {
  JobRequest request = toy_request();
  const RankPrediction exact = predict(job_of(request, toy_model()), {.loss_chunk = 8});
  EXPECT_EQ(exact.basis, Basis::kExecuted);
  EXPECT_EQ(exact.uncertainty, Bytes{});
  request.method.precision = Precision::kBf16;
  const RankPrediction bound = predict(job_of(request, toy_model()), {.loss_chunk = 8});
  EXPECT_EQ(bound.basis, Basis::kFormula);
  EXPECT_GT(bound.uncertainty, Bytes{});
}

TEST(PredictRank, IsExactInFp16WithTheBytesOfBf16BesideScratch) {
  JobRequest request = toy_request();
  request.method.precision = Precision::kBf16;
  const RankPrediction bf16 = predict(job_of(request, toy_model()), {.loss_chunk = 8});
  request.method.precision = Precision::kFp16;
  const RankPrediction fp16 = predict(job_of(request, toy_model()), {.loss_chunk = 8});
  EXPECT_EQ(fp16.basis, Basis::kExecuted);
  EXPECT_EQ(fp16.persistent, bf16.persistent);
  EXPECT_EQ(fp16.lower_bound, bf16.lower_bound);
}

TEST(PredictRank, OnAGpuTheRuntimeIsALineWithAnInterval) {
  Machine gpu;
  gpu.backend = Backend::kCuda;
  gpu.runtime = Bytes{1000};
  gpu.runtime_interval = 0.25;
  const RankPrediction p = predict(job_of(toy_request(), toy_model()), {.loss_chunk = 8}, gpu);
  EXPECT_EQ(p.device.runtime, Bytes{1000});
  EXPECT_EQ(p.device.peak, p.arena + Bytes{1000});
  EXPECT_EQ(sum_of_lines(p.device), p.device.peak);
  EXPECT_EQ(p.basis, Basis::kFormula);
  EXPECT_EQ(p.uncertainty.value, /*runtime=*/250 + /*half of the scratch=*/p.scratch.value / 2);
}

TEST(PredictRank, ACpuHasNoRuntimeLine) {
  Machine cpu;
  cpu.runtime = Bytes{1000};
  EXPECT_EQ(predict(job_of(toy_request(), toy_model()), {.loss_chunk = 8}, cpu).device.runtime,
            Bytes{});
}

TEST(PredictRank, Llama2Of7BillionHoldsItsWeightsInTwoBytesEach) {
  const models::Preset* preset = models::find_preset("llama2-7b");
  ASSERT_NE(preset, nullptr);
  JobRequest request;
  request.training.global_batch = 1;
  const RankPrediction p = predict(job_of(request, preset->config), {.checkpointing = {1}});
  EXPECT_EQ(p.device.weights.value, /*parameters=*/6'738'415'616 * /*bf16=*/2);
  // r = 16 on q, k, v, o (4096 + 4096) and gate, up, down (4096 + 11008) of 32 layers.
  const std::int64_t trained = 32 * 16 * std::int64_t{4 * (4096 + 4096) + 3 * (4096 + 11008)};
  EXPECT_EQ(trained, 39'976'960);
  EXPECT_EQ(p.device.adapters.value, /*f32=*/4 * trained);
  EXPECT_EQ(p.device.optimizer.value, /*two f32 moments=*/8 * trained);
}

TEST(PredictRank, Llama2Of7BillionIn8BitStatesHoldsTwoBytesForEachValueAndTwoScalesForEachBlock) {
  JobRequest request;
  request.method.method = Method::kFull;
  request.method.optimizer = Optimizer::kAdamw8bit;
  request.training.global_batch = 1;
  const ModelConfig& model = models::find_preset("llama2-7b")->config;
  const RankPrediction p = predict(job_of(request, model), {.checkpointing = {1}});
  const std::int64_t all = 6'738'415'616;
  const std::int64_t embedding = std::int64_t{32000} * 4096;
  const std::int64_t norms = (2 * 32 + 1) * 4096;
  const std::int64_t in_8_bits = all - embedding;
  EXPECT_EQ(p.device.optimizer.value, /*f32 masters=*/4 * (all - norms) +
                                          /*f32 moments=*/8 * embedding + /*codes=*/2 * in_8_bits +
                                          /*scales=*/2 * 4 * in_8_bits / 256);
  request.method.optimizer = Optimizer::kPagedAdamw8bit;
  const RankPrediction paged = predict(job_of(request, model), {.checkpointing = {1}});
  EXPECT_EQ(paged.device.optimizer.value, /*f32 masters=*/4 * (all - norms));
  EXPECT_EQ(paged.device.optimizer + paged.host.optimizer, p.device.optimizer);
}

// Of the linears of a layer: how many values, and bytes a value with and without double
// quantization.
constexpr std::int64_t kLinearsOf70B =
    /*q, o=*/2 * 8192 * 8192 + /*k, v=*/2 * 1024 * 8192 + /*gate, up, down=*/3 * 28672 * 8192;
constexpr double kDouble = 0.5 + 1.0 / 64 + 4.0 / (64 * 256);
constexpr double kSingle = 0.5 + 4.0 / 64;

TEST(PredictRank, Llama2Of70BillionIn4BitHasItsEmbeddingAndHeadIn16) {
  EXPECT_NEAR(kDouble, 0.515869, 5e-7);
  const models::Preset* preset = models::find_preset("llama2-70b");
  ASSERT_NE(preset, nullptr);
  JobRequest request;
  request.method.method = Method::kQlora;
  request.training.global_batch = 1;
  const std::int64_t edges = 2 * (/*embedding, head=*/2 * 32000 * 8192 + /*final norm=*/8192);
  const std::int64_t norms = 2 * 2 * 8192;
  for (const bool nested : {true, false}) {
    request.method.double_quantization = nested;
    const RankPrediction p = predict(job_of(request, preset->config), {.checkpointing = {1}});
    const auto linears =
        static_cast<std::int64_t>((nested ? kDouble : kSingle) * double(kLinearsOf70B));
    const std::int64_t means = nested ? /*7 f32, aligned=*/64 : 0;
    EXPECT_EQ(p.device.weights.value, edges + 80 * (norms + linears + means));
    EXPECT_NEAR(static_cast<double>(p.device.weights.value) / (1 << 30), nested ? 33.87 : 36.84,
                0.005);
  }
}

TEST(PredictRank, OnAGpuA4BitProductIsExpectedToHoldOneWholeWeightIn16Bit) {
  const models::Preset* preset = models::find_preset("llama2-70b");
  JobRequest request;
  request.method.method = Method::kQlora;
  request.training.global_batch = 1;
  Machine gpu;
  gpu.backend = Backend::kCuda;
  const RankPrediction p = predict(job_of(request, preset->config), {.checkpointing = {1}}, gpu);
  EXPECT_EQ(p.basis, Basis::kFormula);
  EXPECT_EQ(p.scratch.value, /*the largest=*/28672 * 8192 * 2 + /*cuBLAS=*/8'519'680);
  EXPECT_EQ(p.uncertainty.value, p.scratch.value / 2);
}

TEST(PredictRank, NamesTheLayerAndTheOperationOfThePeak) {
  const RankPrediction p =
      predict(job_of(toy_request(), toy_model()), {.micro_batch = 2, .loss_chunk = 8});
  EXPECT_NE(p.peak_instruction.find(", "), std::string::npos) << p.peak_instruction;
}

TEST(PredictRank, LongerRowsOfTheDataDecideTheArena) {
  const Job job = job_of(toy_request(), toy_model());
  const Strategy strategy{.loss_chunk = 8};
  const Machine machine;
  const auto peak = [&](std::vector<LengthCount> lengths) {
    const std::optional<DataFacts> facts =
        DataFacts{.rows = 4, .longest = 64, .lengths = std::move(lengths)};
    return predict_rank({job, strategy, machine, facts, 2}, 0)->device.peak;
  };
  EXPECT_EQ(peak({{16, 2}, {64, 2}}), peak({{64, 4}}));
  EXPECT_LT(peak({{16, 4}}), peak({{64, 4}}));
}

TEST(Simulate, PeaksWhereThePredictionSays) {
  const Job job = job_of(toy_request(), toy_model());
  for (const std::int64_t every : {0, 1}) {
    const Strategy strategy{
        .micro_batch = 1, .accumulation = 2, .checkpointing = {every}, .loss_chunk = 8};
    const auto program = program::lower(job, strategy, {}, {});
    ASSERT_TRUE(program.ok()) << program.error().text();
    const Timeline timeline = simulate(*program, 0);
    const RankPrediction p = predict(job, strategy);
    const Instant& peak = timeline.instants[static_cast<std::size_t>(timeline.peak)];
    EXPECT_EQ(peak.device, p.device);
    for (const Instant& instant : timeline.instants) {
      EXPECT_EQ(sum_of_lines(instant.device), instant.device.peak);
      EXPECT_LE(instant.device.live(), peak.device.live());
    }
  }
}

RankPrediction with_bytes(std::int64_t device, std::int64_t host, std::int64_t uncertainty) {
  RankPrediction p;
  p.device.peak = {device};
  p.host.peak = {host};
  p.uncertainty = {uncertainty};
  return p;
}

TEST(Judge, FitsOnlyWhenTheUpperEndDoes) {
  Machine gpu;
  gpu.backend = Backend::kCuda;
  EXPECT_EQ(judge(with_bytes(90, 50, 10), gpu).fits, Fits::kUnknown);
  gpu.device_memory = Bytes{100};
  EXPECT_EQ(judge(with_bytes(90, 50, 10), gpu).fits, Fits::kYes);
  EXPECT_EQ(judge(with_bytes(91, 50, 10), gpu).fits, Fits::kTight);
  EXPECT_EQ(judge(with_bytes(111, 50, 10), gpu).fits, Fits::kNo);
  EXPECT_EQ(judge(with_bytes(111, 50, 10), gpu).headroom, Bytes{-21});
}

TEST(Judge, OnCpuDeviceAndHostShareTheMemory) {
  Machine cpu;
  cpu.device_memory = Bytes{100};
  EXPECT_EQ(judge(with_bytes(60, 40, 0), cpu).fits, Fits::kYes);
  EXPECT_EQ(judge(with_bytes(60, 41, 0), cpu).fits, Fits::kNo);
}

TEST(Judge, OnCpuScratchIsABoundThatMeasuringMayLower) {
  Machine cpu;
  cpu.device_memory = Bytes{100};
  EXPECT_EQ(judge(with_bytes(60, 40, 30), cpu).fits, Fits::kYes);
  EXPECT_EQ(judge(with_bytes(90, 40, 30), cpu).fits, Fits::kTight);
  EXPECT_EQ(judge(with_bytes(91, 40, 30), cpu).fits, Fits::kNo);
}

TEST(Judge, OnAGpuAKnownHostMustHoldItsBytes) {
  Machine gpu;
  gpu.backend = Backend::kCuda;
  gpu.device_memory = Bytes{100};
  gpu.host_memory = Bytes{40};
  EXPECT_EQ(judge(with_bytes(60, 40, 0), gpu).fits, Fits::kYes);
  EXPECT_EQ(judge(with_bytes(60, 41, 0), gpu).fits, Fits::kNo);
  EXPECT_EQ(judge(with_bytes(60, 41, 0), gpu).headroom, Bytes{-1});
  EXPECT_EQ(judge(with_bytes(60, 20, 0), gpu, {.ranks = 2}).fits, Fits::kYes);
  EXPECT_EQ(judge(with_bytes(60, 21, 0), gpu, {.ranks = 2}).fits, Fits::kNo);
}

TEST(Judge, AKnownDiskMustHoldTheFilesOfAllThatWrite) {
  Machine gpu;
  gpu.backend = Backend::kCuda;
  gpu.device_memory = Bytes{100};
  RankPrediction p = with_bytes(60, 40, 0);
  p.disk.peak = {30};
  EXPECT_EQ(judge(p, gpu).disk, Fits::kUnknown);
  EXPECT_EQ(judge(p, gpu).host, Fits::kUnknown);
  gpu.disk = Bytes{59};
  EXPECT_EQ(judge(p, gpu, {.ranks = 2}).disk, Fits::kYes);
  const Judgement two = judge(p, gpu, {.ranks = 2, .writers = 2});
  EXPECT_EQ(two.disk, Fits::kNo);
  EXPECT_EQ(two.fits, Fits::kNo);
  EXPECT_EQ(two.place, Place::kDisk);
  EXPECT_EQ(two.headroom, Bytes{-1});
}

// "16 bytes a parameter" of mixed precision, counted: weights and gradients in 16 bit, masters and
// both moments in f32. Norms are f32 without a master: 4 + 4 + 8. With accumulation the gradients
// are f32 too, as is the head's where its loss comes in chunks: here it comes in one.
TEST(PredictRank, FullFineTuningHolds16BytesAParameterAnd18WithAccumulation) {
  const ModelConfig& model = models::find_preset("llama2-70b")->config;
  const std::int64_t parameters = 68'976'648'192;
  const std::int64_t norms = std::int64_t{2 * 80 + 1} * 8192;
  for (const std::int64_t accumulation : {1, 4}) {
    JobRequest request;
    request.method.method = Method::kFull;
    request.training.micro_batch = 1;
    request.training.accumulation = accumulation;
    const RankPrediction p =
        predict(job_of(request, model),
                {.accumulation = accumulation, .checkpointing = {1}, .loss_chunk = 2048});
    const std::int64_t states =
        p.device.weights.value + p.device.gradients.value + p.device.optimizer.value;
    const std::int64_t a_parameter =
        /*weight=*/2 + /*gradient=*/(accumulation == 1 ? 2 : 4) + /*master=*/4 + /*moments=*/8;
    EXPECT_EQ(a_parameter, accumulation == 1 ? 16 : 18);
    EXPECT_EQ(states, a_parameter * (parameters - norms) + 16 * norms);
  }
}

}  // namespace
}  // namespace ftplan::estimator

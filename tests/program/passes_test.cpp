#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/category.h"
#include "core/enums.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/units.h"
#include "program/clone.h"
#include "program/lower.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/step_program.h"
#include "program/verify.h"
#include "program/walk.h"
#include "tests/program/support.h"

// What differentiate and recompute keep, share and run again, on the toy model: T 8, H 16, F 32, 2
// heads of 8, 1 kv head.

namespace ftplan::program {
namespace {

constexpr std::int64_t kTokens = 8;
constexpr std::int64_t kHidden = 16;

// Instructions of `op` that run, in order.
std::vector<Instruction> all_of(const StepProgram& program, Op op) {
  std::vector<Instruction> found;
  for (const Step& step : walk(program, Sampling::kAll).steps) {
    if (program.instruction(step.instruction).op == op)
      found.push_back(program.instruction(step.instruction));
  }
  return found;
}

std::int64_t count(const StepProgram& program, Op op, Phase phase) {
  const auto found = all_of(program, op);
  return std::count_if(found.begin(), found.end(),
                       [&](const Instruction& i) { return i.phase == phase; });
}

Case full(const Strategy& strategy = {}) { return make_case(toy_request(), toy_model(), strategy); }

Case lora(const std::vector<std::string>& targets, const Strategy& strategy = {}) {
  JobRequest request = toy_request();
  request.method = {
      .method = Method::kLora, .rank = 2, .targets = targets, .precision = Precision::kFp32};
  return make_case(request, toy_model(), strategy);
}

Result<StepProgram> lower_of(const Case& c) { return lower(c.job, c.strategy, c.machine, {}); }

TEST(Differentiate, FullFineTuningKeepsElevenValuesALayer) {
  const std::int64_t layer = /*x, x2, q, o, with H*/ 4 * kHidden + /*k, v*/ 2 * 8 +
                             /*gate, up*/ 2 * 32 +
                             /*1/rms of both norms*/ 2 + /*log-sum per head*/ 2;
  const std::int64_t head = /*x*/ kHidden + /*1/rms*/ 1;
  EXPECT_EQ(lower_case(full()).saved_bytes.value, 4 * kTokens * (2 * layer + head));
}

TEST(Differentiate, AFrozenLinearGetsNoWeightGradient) {
  const StepProgram program = lower_case(lora({"v_proj"}));
  EXPECT_EQ(all_of(program, Op::kLinearWeightGradient).size(), /*layers=*/2U * /*A and B=*/2U);
}

TEST(Differentiate, TheBackwardOfLoraEndsWithTheFirstAdapter) {
  // Of layer 0 only v_proj learns: its input's gradient is not made, and no norm is differentiated
  // below it.
  const StepProgram program = lower_case(lora({"v_proj"}));
  EXPECT_EQ(all_of(program, Op::kRmsNormBackward).size(),
            /*head=*/1U + /*layer 1, both norms=*/2U + /*layer 0, the norm of the MLP=*/1U);
}

TEST(Differentiate, WhereOnlyTheHeadLearnsTheBackwardEndsWithIt) {
  for (const std::int64_t every : {0, 1, 2}) {
    const StepProgram program = lower_case(lora({"lm_head"}, {.checkpointing = {.every = every}}));
    EXPECT_EQ(verify_program(program), "");
    for (const Segment& segment : program.segments)
      EXPECT_NE(segment.role, Role::kBackwardLayers) << every;
    EXPECT_TRUE(all_of(program, Op::kRmsNormBackward).empty()) << every;
  }
}

TEST(Differentiate, TheResidualStreamHasOneGradient) {
  // Each norm adds to the tensor that holds the gradient of the stream; none is copied or added
  // beside it.
  const StepProgram program = lower_case(full());
  EXPECT_TRUE(all_of(program, Op::kCopy).empty());
  EXPECT_EQ(count(program, Op::kAdd, Phase::kBackward), 0);
  const auto norms = all_of(program, Op::kRmsNormBackward);
  for (std::size_t i = 1; i < norms.size(); ++i) {
    EXPECT_EQ(norms[i].out[0].tensor, norms[0].out[0].tensor);
    EXPECT_EQ(norms[i].accumulate & 1, 1);
  }
}

TEST(Differentiate, GradientsOfSharedInputsAddUp) {
  // q, k and v read one normed value: the first defines its gradient, the others add.
  const StepProgram program = lower_case(full());
  int defined = 0;
  int added = 0;
  for (const Instruction& i : all_of(program, Op::kLinearInputGradient)) {
    (i.accumulate != 0 ? added : defined) += 1;
  }
  EXPECT_EQ(defined, /*layers=*/2 * /*down, up, o, v=*/4);
  EXPECT_EQ(added, /*layers=*/2 * /*gate, k, q=*/3);
}

TEST(Differentiate, AnActivatedValueIsMadeAgainWhereOnlyDownProjLearnsInTheFirstLayer) {
  const StepProgram program = lower_case(lora({"down_proj"}));
  EXPECT_EQ(count(program, Op::kGatedSilu, Phase::kBackward), 1);
  EXPECT_EQ(all_of(program, Op::kGatedSiluBackward).size(), 1U);
}

TEST(Differentiate, PaddingOfGradientsIsZero) {
  // H 16: each norm weight is padded to 256 elements.
  const StepProgram program = lower_case(full());
  std::int64_t padding = 0;
  for (const TrainedUnit& unit : program.units)
    padding += static_cast<std::int64_t>(unit.gaps.size());
  EXPECT_GT(padding, 0);
  const std::int64_t sums = 2;  // loss and gradient norm
  EXPECT_EQ(static_cast<std::int64_t>(all_of(program, Op::kZero).size()),
            sums + /*final norm=*/1 + /*layers=*/2 * /*k, v and two norms=*/4);
}

TEST(Recompute, FullRunsEachLayerAgainUpToWhatTheBackwardReads) {
  const StepProgram program = lower_case(full({.checkpointing = {.every = 1}}));
  EXPECT_EQ(count(program, Op::kAttention, Phase::kRecompute), 2);
  // down_proj's product is the next layer's input, which is kept.
  EXPECT_EQ(count(program, Op::kLinear, Phase::kRecompute), /*layers=*/2 * /*q k v o gate up=*/6);
  EXPECT_EQ(count(program, Op::kLinear, Phase::kForward), /*layers=*/2 * 7);
}

TEST(Recompute, AGroupKeepsOneInput) {
  ModelConfig model = toy_model();
  model.layers = 4;
  const Case c = make_case(toy_request(), model, {.checkpointing = {.every = 2}});
  const StepProgram program = lower_case(c);
  const auto kept =
      std::find_if(program.storages.begin(), program.storages.end(),
                   [](const Storage& s) { return s.category == Category::kCheckpoints; });
  ASSERT_NE(kept, program.storages.end());
  EXPECT_EQ(kept->copies.count, /*layers / k=*/2);
  EXPECT_EQ(kept->size.value, 4 * kTokens * kHidden);
  // Inside a group the stream is run again too, but for its last layer.
  EXPECT_EQ(count(program, Op::kLinear, Phase::kRecompute), /*groups=*/2 * (7 + 6));
}

TEST(Recompute, DoesNotChangeWhatIsTrained) {
  const StepProgram none = lower_case(full());
  const StepProgram again = lower_case(full({.checkpointing = {.every = 1}}));
  for (const Op op :
       {Op::kLinearWeightGradient, Op::kRmsNormBackward, Op::kAttentionBackward, Op::kAdamw}) {
    EXPECT_EQ(all_of(none, op).size(), all_of(again, op).size());
  }
}

TEST(Expand, RefusesToRecomputeSeveralLayersAtOnce) {
  JobRequest request = toy_request();
  request.runtime = "hf";
  const Case c = make_case(request, toy_model(), {.checkpointing = {.every = 2}});
  const auto program = lower(c.job, c.strategy, c.machine, {});
  ASSERT_FALSE(program.ok());
  EXPECT_EQ(program.error().text(),
            "--checkpointing: got every-2, but hf recomputes each layer alone: use none or full");
}

TEST(Expand, RefusesRowsForWhichTransformersMakesAMask) {
  JobRequest request = toy_request();
  request.runtime = "hf";
  ModelConfig model = toy_model();
  model.window = kTokens + 1;
  EXPECT_TRUE(lower_of(make_case(request, model, {})).ok());
  model.window = kTokens;
  const auto program = lower_of(make_case(request, model, {}));
  ASSERT_FALSE(program.ok());
  EXPECT_EQ(program.error().text(),
            "--seq: rows of 8 tokens with a sliding window of 8 are not built yet for --runtime "
            "hf: use rows shorter than the window");
}

TEST(Attention, WorksOnTheWindowOnly) {
  ModelConfig model = toy_model();
  const auto flops = [&](std::int64_t window) {
    model.window = window;
    const StepProgram program = lower_case(make_case(toy_request(), model, {}));
    const Instruction forward = all_of(program, Op::kAttention).front();
    return cost_of({program, forward}).flops.value;
  };
  const double of_a_pair = /*two products*/ 2 * 2 * /*heads*/ 2 * /*size*/ 8;
  EXPECT_EQ(flops(0), of_a_pair * /*T^2/2*/ 32);
  EXPECT_EQ(flops(8), flops(0));
  EXPECT_EQ(flops(100), flops(0));
  EXPECT_EQ(flops(2), of_a_pair * (/*triangle*/ 2 + /*band*/ 6 * 2));
}

TEST(Expand, RefusesFamiliesWithFusedLinears) {
  JobRequest request = toy_request();
  request.runtime = "hf";
  ModelConfig model = toy_model();
  for (const Family family : {Family::kPhi3, Family::kFalcon}) {
    model.family = family;
    const auto program = lower_of(make_case(request, model, {}));
    ASSERT_FALSE(program.ok());
    EXPECT_EQ(program.error().text(), std::string("--runtime: hf is not built yet for ") +
                                          to_text(family) + " models: use ftplan");
  }
}

ModelConfig toy_falcon() {
  ModelConfig model = toy_model();
  model.family = Family::kFalcon;
  model.parallel = true;
  return model;
}

TEST(BuildForward, ASecondNormOfOneInputKeepsItsMomentsOnly) {
  ModelConfig model = toy_falcon();
  const StepProgram two = lower_case(make_case(toy_request(), model, {}));
  model.shared_norm = true;
  const StepProgram one = lower_case(make_case(toy_request(), model, {}));
  EXPECT_EQ(two.saved_bytes - one.saved_bytes,
            Bytes{/*layers*/ 2 * /*T*/ 8 * /*mean, 1/std*/ 2 * /*f32*/ 4});
}

TEST(Differentiate, ParallelBranchesAddToOneGradient) {
  const StepProgram program = lower_case(make_case(toy_request(), toy_falcon(), {}));
  EXPECT_TRUE(all_of(program, Op::kCopy).empty());
  EXPECT_EQ(count(program, Op::kAdd, Phase::kBackward), 0);
  const auto norms = all_of(program, Op::kLayerNormBackward);
  EXPECT_EQ(norms.size(), /*head*/ 1U + /*layers*/ 2 * /*norms*/ 2U);
  for (const Instruction& norm : norms) EXPECT_EQ(norm.out[0].tensor, norms[0].out[0].tensor);
}

TEST(BuildForward, PartsOfGroupsAreCopiedUnlessThereIsOneGroup) {
  ModelConfig model = toy_falcon();
  const auto kept = [&] { return lower_case(make_case(toy_request(), model, {})); };
  ASSERT_EQ(model.kv_heads, 1);
  EXPECT_TRUE(all_of(kept(), Op::kSplitGroups).empty());
  model.kv_heads = 2;
  const StepProgram copied = kept();
  EXPECT_EQ(all_of(copied, Op::kSplitGroups).size(), /*layers*/ 2U);
  EXPECT_EQ(all_of(copied, Op::kJoinGroups).size(), /*layers*/ 2U);
  // The fused value dies when it has been split: only its parts are kept.
  const Instruction split = all_of(copied, Op::kSplitGroups).front();
  EXPECT_EQ(copied.storage_of(split.in[0].tensor).region, Region::kWork);
  EXPECT_EQ(copied.storage_of(split.out[0].tensor).region, Region::kStack);
}

TEST(BuildForward, AModelWithAlibiHasNoRotations) {
  ModelConfig model = toy_falcon();
  model.alibi = true;
  const StepProgram program = lower_case(make_case(toy_request(), model, {}));
  EXPECT_TRUE(all_of(program, Op::kRotate).empty());
  EXPECT_EQ(program.interface.rope_table, kNone);
}

TEST(Differentiate, PartsOfAFusedValueShareOneGradient) {
  ModelConfig model = toy_model();
  model.family = Family::kPhi3;
  const StepProgram program = lower_case(make_case(toy_request(), model, {}));
  const Instruction attention = all_of(program, Op::kAttentionBackward).front();
  const StorageId fused = program.tensor(attention.out[0]).storage;
  EXPECT_EQ(program.storages[static_cast<std::size_t>(fused)].size.value,
            /*T*/ 8 * (/*q*/ 16 + /*k, v*/ 2 * 8) * /*f32*/ 4);
  for (const Operand& gradient : attention.out) EXPECT_EQ(program.tensor(gradient).storage, fused);
  // What is kept is what Llama keeps: fusing changes names, not bytes.
  EXPECT_EQ(program.saved_bytes, lower_case(full()).saved_bytes);
}

TEST(Expand, KeepsTheLogitsAliveThroughTheBackward) {
  JobRequest request = toy_request();
  request.runtime = "hf";
  const StepProgram program = lower_case(make_case(request, toy_model(), {}));
  const auto marks = all_of(program, Op::kMark);
  ASSERT_EQ(marks.size(), 1U);
  EXPECT_EQ(program.storage_of(marks[0].in[0].tensor).category, Category::kLogits);
  EXPECT_EQ(program.tensor(marks[0].in[0]).shape, (Shape{kTokens, /*vocabulary=*/64}));
}

}  // namespace
}  // namespace ftplan::program

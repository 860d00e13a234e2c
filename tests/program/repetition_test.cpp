#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/category.h"
#include "core/enums.h"
#include "core/job.h"
#include "core/method.h"
#include "core/model_config.h"
#include "program/step_program.h"
#include "program/verify.h"
#include "program/walk.h"
#include "tests/program/support.h"

// A program stores equal layers and micro-steps once, and sizes are found from a few of them. Both
// must not be seen.

namespace ftplan::program {
namespace {

class RandomCase : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Seeds, RandomCase, testing::Range(std::uint64_t{0}, std::uint64_t{500}));

TEST_P(RandomCase, PeaksOfRepeatedSegmentsEqualThoseOfUnrolledOnes) {
  const Case c = random_case(GetParam());
  SCOPED_TRACE("seed " + std::to_string(GetParam()) + ": " + describe(c));
  for (std::int64_t rank = 0; rank < c.job.ranks(); ++rank) {
    const StepProgram sampled = lower_case(c, rank, Sampling::kEnds);
    const StepProgram unrolled = lower_case(c, rank, Sampling::kAll);
    EXPECT_EQ(sampled.arena, unrolled.arena);
    EXPECT_EQ(sampled.persistent, unrolled.persistent);
    for (const Place place : {Place::kDevice, Place::kHost}) {
      EXPECT_EQ(lower_bound_of(sampled, Sampling::kEnds, place),
                lower_bound_of(unrolled, Sampling::kAll, place));
    }
  }
}

TEST_P(RandomCase, ProgramsOfAllRanksAreWhatTheyMustBe) {
  const Case c = random_case(GetParam());
  EXPECT_EQ(verify_ranks(lower_ranks(c)), "") << "seed " << GetParam() << ": " << describe(c);
}

bool expands(Family family) {
  return family != Family::kPhi3 && family != Family::kGemma2 && family != Family::kFalcon &&
         family != Family::kMixtral;
}

// The same for the sub-ops of another trainer.
TEST_P(RandomCase, ExpandedProgramsAreWhatTheyMustBe) {
  Case c = random_case(GetParam());
  if (!expands(c.job.model.family)) GTEST_SKIP() << "refused: " << to_text(c.job.model.family);
  c.job.request.runtime = "hf";
  c.job.model.window = 0;  // else transformers makes a mask, which is refused, too
  // Refused for other trainers.
  if (c.job.quantized()) c.job.request.method.method = Method::kLora;
  c.job.request.method.optimizer = Optimizer::kAdamw;
  c.job.request.training.update_in_backward = false;
  c.job.request.layout.pipeline.reset();
  c.strategy.stage_layers.clear();
  c.job.whole_modules.clear();
  for (const int edge : {embedding_index(c.job.model.family), head_index(c.job.model.family)})
    c.job.adapters[static_cast<std::size_t>(edge)] = {};
  const auto learns = [](const LoraShape& adapter) { return adapter.rank > 0; };
  if (c.job.lora() && std::none_of(c.job.adapters.begin(), c.job.adapters.end(), learns))
    GTEST_SKIP() << "adapts embedding and head alone";
  c.strategy.checkpointing.every = std::min<std::int64_t>(c.strategy.checkpointing.every, 1);
  c.strategy.zero = std::min<std::int64_t>(c.strategy.zero, 1);
  SCOPED_TRACE("seed " + std::to_string(GetParam()) + ": " + describe(c));
  EXPECT_EQ(verify_ranks(lower_ranks(c)), "");
  const StepProgram sampled = lower_case(c, 0, Sampling::kEnds);
  EXPECT_EQ(sampled.arena, lower_case(c, 0, Sampling::kAll).arena);
  EXPECT_EQ(lower_bound_of(sampled, Sampling::kEnds), lower_bound_of(sampled, Sampling::kAll));
}

}  // namespace
}  // namespace ftplan::program

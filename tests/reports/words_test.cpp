#include "reports/words.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "support.h"

namespace ftplan::reports {
namespace {

TEST(Summary, SaysWhatItNeedsOfWhatThereIs) {
  // Device 100 MiB and host 2 MiB share the host's GiB.
  EXPECT_EQ(summary(toy_plan()), "LoRA in bf16 on cpu needs 102.0 MiB of 1.00 GiB: it fits.");
}

TEST(Summary, SaysThatItDoesNotFit) {
  Plan plan = toy_plan();
  plan.fits = Fits::kNo;
  EXPECT_NE(summary(plan).find("it does not fit"), std::string::npos);
}

TEST(NeedOf, AGpuIsJudgedOnItsOwnMemoryAndTheWorstRank) {
  Plan plan = toy_plan();
  plan.machine.backend = Backend::kCuda;
  plan.machine.device_memory = 14 * kGiB;
  plan.predicted.push_back(plan.predicted[0]);
  plan.predicted[1].rank = 3;
  plan.predicted[1].device.peak += Bytes{1};
  const auto need = need_of(plan);
  ASSERT_TRUE(need.has_value());
  EXPECT_EQ(need->rank, 3);
  EXPECT_EQ(need->used, 100 * kMiB + Bytes{1});
  EXPECT_EQ(need->limit, 14 * kGiB);
}

TEST(DescribeBasis, ShowsTheIntervalOfAFormula) {
  RankPrediction rank = toy_plan().predicted[0];
  EXPECT_NE(describe_basis(rank).find("exact"), std::string::npos);
  rank.basis = Basis::kFormula;
  rank.uncertainty = 10 * kMiB;
  EXPECT_NE(describe_basis(rank).find("between 90.0 MiB and 110.0 MiB"), std::string::npos);
}

TEST(DescribeVerdict, IsEqualOrCountsTheDifferences) {
  ReportInput input = toy_report();
  EXPECT_EQ(describe_verdict(input), "Predicted equals measured, to the byte, on all 9 lines.");
  input.result->ranks[0].measured.device.scratch += Bytes{1};
  EXPECT_EQ(describe_verdict(input), "1 line of 9 differs from the prediction.");
  input.result.reset();
  EXPECT_EQ(describe_verdict(input), "");
}

TEST(DescribeLoss, NamesFirstAndLastAndSkipsWhatIsNotANumber) {
  std::vector<StepMetrics> metrics(3);
  metrics[0].loss = 2.5;
  metrics[1].loss = std::numeric_limits<double>::quiet_NaN();
  metrics[2].validation_loss = 1.5;
  EXPECT_EQ(describe_loss(metrics), "Training loss is 2.5000. Validation loss is 1.5000.");
  metrics[1].loss = 1.25;
  EXPECT_EQ(describe_loss(metrics),
            "Training loss fell from 2.5000 to 1.2500. Validation loss is 1.5000.");
  EXPECT_EQ(describe_loss({}), "");
}

TEST(DescribeLoss, NamesTheLowestWhereItIsNotTheLast) {
  std::vector<StepMetrics> metrics(2);
  metrics[0].step = 10;
  metrics[0].validation_loss = metrics[0].best_validation_loss = 1.25;
  metrics[0].best_step = 10;
  EXPECT_EQ(describe_loss(metrics), "Validation loss is 1.2500.") << "not said twice";
  metrics[1] = metrics[0];
  metrics[1].step = 20;
  metrics[1].validation_loss = 1.5;
  EXPECT_EQ(describe_loss(metrics),
            "Validation loss rose from 1.2500 to 1.5000. It was lowest after step 10: 1.2500.");
}

TEST(DescribeResult, NamesTheStateAndAnEarlyEnd) {
  ReportInput input = toy_report();
  EXPECT_EQ(describe_result(input), "") << "an interrupted run has no result";
  input.result->steps = 60;
  input.result->result_step = 60;
  input.result->best_step = 40;
  EXPECT_EQ(describe_result(input), "The result is the state after step 60, the last.");
  input.result->result_step = 40;
  EXPECT_EQ(describe_result(input), "The result is the state after step 40, the best.");
  input.result->steps = 50;
  input.result->stopped_early = true;
  EXPECT_EQ(describe_result(input),
            "It stopped early, after step 50 of 60: validation no longer got better. The result is "
            "the state after step 40, the best.");
}

TEST(Describe, ValidationSaysWhatIsDoneWithIt) {
  Plan plan = toy_plan();
  const auto words = [&] {
    for (const Fact& fact : describe(plan)) {
      if (fact.label == "Validation") return fact.text;
    }
    return std::string();
  };
  plan.job.data.validation = 0;
  EXPECT_EQ(words(), "");
  plan.job.data.validation = 0.1;
  EXPECT_EQ(words(), "Evaluated after each epoch, and at the end.");
  plan.job.training.eval_every = {.steps = 20};
  plan.job.training.eval_delay = 40;
  plan.job.training.load_best_model_at_end = true;
  plan.job.training.early_stopping_patience = 3;
  plan.job.training.early_stopping_threshold = 0.01;
  plan.job.training.save_every = {.steps = 1};
  EXPECT_EQ(words(),
            "Evaluated every 20 steps, first after step 40, and at the end; the best state is the "
            "result; stops after 3 evaluations without improvement of more than 0.01. Saved every "
            "step; the newest checkpoint is kept.");
}

TEST(DescribeLoss, CountsTheStepsThatWereSkippedInTheWholeRun) {
  std::vector<StepMetrics> metrics(3);
  metrics[0].loss = 2.5;
  metrics[1].loss = 2;
  metrics[0].skipped_steps = 1;
  metrics[1].skipped_steps = 2;
  metrics[2].validation_loss = 1.5;
  EXPECT_EQ(
      describe_loss(metrics),
      "Training loss fell from 2.5000 to 2.0000. Validation loss is 1.5000. 2 steps without an "
      "update: fp16 gradients overflowed.");
}

TEST(Describe, AStrategyNamesEveryKnob) {
  EXPECT_EQ(describe(toy_plan().strategy),
            "micro-batch 2 \u00d7 accumulation 4, checkpointing full, ZeRO-0, loss in chunks of "
            "512 tokens");
}

TEST(Describe, TrainingCountsSequencesOfOneStep) {
  std::string training;
  for (const Fact& fact : describe(toy_plan()))
    training = fact.label == "Training" ? fact.text : training;
  EXPECT_NE(training.find("60 steps of 8 sequences"), std::string::npos)
      << training;  // 2 x 4 x 1 rank
}

}  // namespace
}  // namespace ftplan::reports

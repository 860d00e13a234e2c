#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/plan.h"
#include "core/strategy.h"
#include "core/units.h"
#include "reports/report.h"

/// A plan in words. Plain text: renderers escape it.
namespace ftplan::reports {

/// `llama2-7b, LoRA`
std::string title(const Plan& plan);

/// One sentence: what is trained on what, what it needs, and whether that fits.
std::string summary(const Plan& plan);

struct Fact {
  std::string label;
  std::string text;
};

/// Model, method, devices, strategy, data and training, a sentence each.
std::vector<Fact> describe(const Plan& plan);

/// `ZeRO-1`, or `naive pipeline of 10+12+10 layers`.
std::string describe_layout(const Strategy& strategy);

/// `micro-batch 2 x accumulation 4, checkpointing full, ZeRO-1, loss in chunks of 512 tokens`
std::string describe(const Strategy& strategy);

/// What the worst rank needs of the memory that limits it. On CPUs device and host share one
/// memory.
struct Need {
  std::int64_t rank = 0;
  Bytes used;
  std::optional<Bytes> limit;  ///< empty when it is not known
};
/// Empty when the plan predicts nothing.
std::optional<Need> need_of(const Plan& plan);

/// Where the numbers of a rank come from, and their interval.
std::string describe_basis(const RankPrediction& prediction);

/// What `compare` found, in one sentence; empty without a result.
std::string describe_verdict(const ReportInput& input);

/// First and last value of each loss, and the lowest of the validation; empty without steps.
std::string describe_loss(const std::vector<StepMetrics>& metrics);

/// The evaluation with the lowest loss; empty when none was logged.
struct BestEvaluation {
  std::int64_t step = 0;
  double loss = 0;
};
std::optional<BestEvaluation> best_of(const std::vector<StepMetrics>& metrics);

/// Where the run ended and which state its result is, in sentences; empty before there is a result.
std::string describe_result(const ReportInput& input);

/// What an instant of a timeline does: `backward, layer 3 of micro-step 1: attention`. Layers and
/// micro-steps count from 0.
std::string describe(const Instant& instant);

/// `n unit` or `n units`, with commas.
std::string counted(std::int64_t count, const char* unit);

}  // namespace ftplan::reports

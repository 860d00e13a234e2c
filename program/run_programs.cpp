#include "program/run_programs.h"

#include <cstdint>
#include <optional>
#include <vector>

#include "core/data_options.h"
#include "core/job.h"
#include "core/strategy.h"
#include "program/lowering.h"

namespace ftplan::program {

std::vector<ProgramRequest> run_programs(const Job& job, const Strategy& strategy,
                                         std::int64_t rank, const std::optional<DataFacts>& facts) {
  std::vector<ProgramRequest> requests;
  requests.push_back({.kind = ProgramKind::kLoad, .rank = rank});
  const auto add = [&](ProgramKind kind, std::int64_t rows, std::int64_t sequence) {
    requests.push_back({.kind = kind, .rank = rank, .rows = rows, .sequence = sequence});
  };
  if (strategy.zero >= 3 && job.data_parallel() > 1)
    requests.push_back({.kind = ProgramKind::kSave, .rank = rank});
  const std::int64_t evaluated = job.request.training.eval_batch.value_or(strategy.micro_batch);
  if (!facts) {
    add(ProgramKind::kTrain, strategy.micro_batch, job.sequence);
    if (job.request.data.validation > 0) add(ProgramKind::kEvaluate, evaluated, job.sequence);
    return requests;
  }
  for (const LengthCount& length : facts->lengths) {
    add(ProgramKind::kTrain, strategy.micro_batch, length.tokens);
  }
  for (const LengthCount& length : facts->validation_lengths) {
    add(ProgramKind::kEvaluate, evaluated, length.tokens);
  }
  return requests;
}

}  // namespace ftplan::program

#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/data_options.h"
#include "core/job.h"
#include "core/strategy.h"
#include "program/lowering.h"

namespace ftplan::program {

/// Every program that a fine-tuning run executes on `rank`: loading, a training step for each
/// padded length that rows have (one of `job.sequence` tokens when the data is not known), and an
/// evaluation for each length of the held-out rows. They share one arena, sized by the largest;
/// their persistent regions are equal.
std::vector<ProgramRequest> run_programs(const Job& job, const Strategy& strategy,
                                         std::int64_t rank, const std::optional<DataFacts>& facts);

}  // namespace ftplan::program

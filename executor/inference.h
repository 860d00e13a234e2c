#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/job.h"
#include "core/machine.h"
#include "core/result.h"
#include "data/rows.h"
#include "executor/loader.h"
#include "executor/rank_run.h"

/// A model in use: perplexity and text, by the same programs and kernels as training.
namespace ftplan::executor {

struct Evaluation {
  double loss = 0;  ///< mean over the target tokens
  std::int64_t target_tokens = 0;
  std::int64_t rows = 0;
};

/// Each of several sets of rows; the weights are read once.
/// @param batch rows in one pass
/// @error infeasible: no memory; bad input: a set without a target
Result<std::vector<Evaluation>> evaluate_rows(const Job& job, const Machine& machine,
                                              const Loader& loader,
                                              std::span<const data::RowSet> sets,
                                              std::int64_t batch);

struct Generation {
  std::int64_t new_tokens = 64;     ///< at most
  std::vector<std::int32_t> stops;  ///< ids after which a text ends
  Sampling sampling;
  std::int64_t batch = 1;  ///< prompts that are answered at a time
};

/// Told each id as soon as it is known; false ends the text of that prompt.
using OnToken = std::function<bool(std::size_t prompt, std::int32_t id)>;

/// Continues each prompt; the texts are without the prompt and without the id that ended them.
/// Prompts are padded on the left to a multiple of 64; padding is neither seen nor counted. What is
/// drawn for a prompt does not depend on those beside it.
/// @error bad input: a prompt that leaves no room within the model's positions; infeasible: no
/// memory
Result<std::vector<std::vector<std::int32_t>>> generate(
    const Job& job, const Machine& machine, const Loader& loader,
    std::span<const std::vector<std::int32_t>> prompts, const Generation& generation,
    const OnToken& on_token);

}  // namespace ftplan::executor

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

/// A model in use: perplexity and text, by the same programs and kernels as training.
namespace ftplan::executor {

struct Evaluation {
  double loss = 0;  ///< mean over the target tokens
  std::int64_t target_tokens = 0;
  std::int64_t rows = 0;
};

/// @param batch rows in one pass
/// @error infeasible: no memory
Result<Evaluation> evaluate_rows(const Job& job, const Machine& machine, const Loader& loader,
                                 const data::RowSet& rows, std::int64_t batch);

struct Generation {
  std::int64_t new_tokens = 64;     ///< at most
  std::vector<std::int32_t> stops;  ///< ids after which a text ends
};

/// Greedy continuation of each prompt, without the prompt and without the id that ended it. Prompts
/// are padded on the left to a multiple of 64; padding is neither seen nor counted.
/// @param on_token called with prompt and id as soon as it is known; may be empty
/// @error bad input: a prompt that leaves no room within the model's positions; infeasible: no
/// memory
Result<std::vector<std::vector<std::int32_t>>> generate_greedy(
    const Job& job, const Machine& machine, const Loader& loader,
    std::span<const std::vector<std::int32_t>> prompts, const Generation& generation,
    const std::function<void(std::size_t, std::int32_t)>& on_token);

}  // namespace ftplan::executor

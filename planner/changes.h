#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/data_options.h"
#include "core/job.h"

/// Requests that differ from a given one in what a user may want to change when memory is short.
namespace ftplan::planner {

struct Change {
  std::string flags;  ///< that make it: `--checkpointing full`
  JobRequest request;
  std::optional<DataFacts> facts;  ///< with rows cut to a shorter `--seq`
};

/// One change each, those that alter least of what is learned first: recomputation and batch, then
/// the loss in smaller chunks, fewer adapted linears, shorter rows, adapters instead of everything.
std::vector<Change> shrinking_changes(const Job& job, const std::optional<DataFacts>& facts);

/// All the changes of a list at once, up to and including number `last`; of several of one flag the
/// last counts.
Change combine(const Job& job, const std::optional<DataFacts>& facts, std::size_t last);

}  // namespace ftplan::planner

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/data_options.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/strategy.h"
#include "planner/search.h"

/// Job -> Plan, or why there is none.
namespace ftplan::planner {

/// The first strategy of the fixed order that fits (`search`), laid out in full, with what it was
/// preferred to. `Plan::machine` keeps of the measured scratch only what the run's programs use,
/// and of memory only what the request or the catalogue says: the same request is the same plan.
/// "It does not fit" is a value.
/// @error what lowering refuses
Result<std::variant<Plan, Infeasible>> make_plan(const Setting& setting);

/// Where each rank runs. Ranks fill one node after the other, and stages follow each other.
std::vector<RankPlace> place_ranks(const Job& job);

/// Ranks whose programs differ: all where something is sharded or cut, else only the first.
std::vector<std::int64_t> distinct_ranks(const Job& job, const Strategy& strategy);

/// Digest of the training program of rows of `job.sequence` tokens, for each distinct rank.
Result<std::vector<std::string>> program_digests(const Job& job, const Strategy& strategy,
                                                 const Machine& machine);

/// The largest of the lines that make up `bytes`.
Category biggest_category(const PlaceBytes& bytes);

}  // namespace ftplan::planner

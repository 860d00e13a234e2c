#include "planner/plan.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/category.h"
#include "core/devices.h"
#include "core/digest.h"
#include "core/enums.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/strategy.h"
#include "core/text.h"
#include "core/units.h"
#include "estimator/predict.h"
#include "models/family.h"
#include "planner/changes.h"
#include "planner/search.h"
#include "program/lower.h"
#include "program/lowering.h"

namespace ftplan::planner {
namespace {

constexpr std::size_t kRunnersUp = 4;

// Memory that was read off this host changes from moment to moment: it decides, but it does not
// belong into a plan.
bool memory_is_momentary(const Setting& setting) {
  return setting.machine.backend == Backend::kCpu && setting.job.request.devices.memory.empty() &&
         !setting.job.request.devices.host_memory;
}

std::string counted_ranks(const Job& job) {
  if (job.stages() > 1) return std::to_string(job.data_parallel()) + " pipeline";
  return std::to_string(job.ranks()) + (job.ranks() == 1 ? " rank" : " ranks");
}

std::vector<std::string> explain_choice(const Setting& setting, const Evaluation& chosen) {
  const Job& job = setting.job;
  std::vector<std::string> why = {
      std::string("Precision ") + to_text(job.request.method.precision) +
      (chosen.strategy.checkpointing.every == 0
           ? ", and nothing is recomputed: that fits."
           : ", with checkpointing " + to_text(chosen.strategy.checkpointing) +
                 ": the least recomputation that fits.")};
  std::string batch = "Micro-batch " + std::to_string(chosen.strategy.micro_batch) +
                      " x accumulation " + std::to_string(chosen.strategy.accumulation) + " x " +
                      counted_ranks(job) + ": ";
  batch += chosen.strategy.micro_batch == job.micro_batch_choices.front()
               ? "the largest that was allowed."
               : "the largest that fits.";
  why.push_back(std::move(batch));
  if (memory_is_momentary(setting) && chosen.judgement.limit) {
    why.emplace_back("It fits into the memory that this host had free.");
  } else if (chosen.judgement.limit) {
    why.push_back(format_bytes(chosen.judgement.headroom) + " of " +
                  format_bytes(*chosen.judgement.limit) + " stay free.");
  } else {
    why.emplace_back("The memory of the device is not known: nothing was held against it.");
  }
  return why;
}

// What was preferred but does not fit, and the next choice that would.
Result<std::vector<RunnerUp>> runners_up(const Setting& setting, const SearchResult& found) {
  std::vector<RunnerUp> list;
  for (const Evaluation& lost : found.rejected) {
    std::string lost_by = "does not fit";
    if (!memory_is_momentary(setting))
      lost_by += ": short by " + format_bytes(Bytes{} - lost.judgement.headroom);
    list.push_back({lost.strategy, lost.prediction.device.peak, std::move(lost_by)});
  }
  const Strategy& chosen = found.chosen->strategy;
  const auto& choices = setting.job.checkpointing_choices;
  const auto at = std::find(choices.begin(), choices.end(), chosen.checkpointing);
  if (at != choices.end() && at + 1 != choices.end()) {
    Strategy more = chosen;
    more.checkpointing = *(at + 1);
    auto next = evaluate(setting, more);
    if (!next) return next.error();
    list.push_back({more, next->prediction.device.peak, "fits too, but recomputes more"});
  }
  // The nearest misses tell most.
  if (list.size() > kRunnersUp)
    list.erase(list.begin(), list.end() - static_cast<std::ptrdiff_t>(kRunnersUp));
  return list;
}

Result<std::optional<Evaluation>> fitting(const Setting& setting, const Change& change) {
  auto job = validate(change.request, setting.job.model, change.facts);
  if (!job) return std::optional<Evaluation>{};  // not a change that this job allows
  auto found = search({*job, setting.machine, change.facts});
  if (!found) return found.error();
  return found->chosen;
}

// Flags of the first single change that fits, else of the first combination.
Result<std::string> smallest_change(const Setting& setting, const Evaluation& smallest) {
  const std::vector<Change> changes = shrinking_changes(setting.job, setting.facts);
  for (const Change& change : changes) {
    auto fits = fitting(setting, change);
    if (!fits) return fits.error();
    if (*fits) return change.flags;
  }
  for (std::size_t last = 1; last < changes.size(); ++last) {
    const Change change = combine(setting.job, setting.facts, last);
    auto fits = fitting(setting, change);
    if (!fits) return fits.error();
    if (*fits) return change.flags;
  }
  const Place place = smallest.judgement.place;
  const char* what = place == Place::kHost ? "hosts" : place == Place::kDisk ? "disks" : "devices";
  return std::string("none of the flags is enough: take ") + what + " with " +
         format_bytes(smallest.judgement.need);
}

const PlaceBytes& bytes_of(const RankPrediction& prediction, Place place) {
  if (place == Place::kHost) return prediction.host;
  return place == Place::kDisk ? prediction.disk : prediction.device;
}

Result<Infeasible> infeasible(const Setting& setting, const SearchResult& found) {
  const Evaluation& best = *found.smallest;
  auto change = smallest_change(setting, best);
  if (!change) return change.error();
  return Infeasible{best.strategy,
                    best.prediction,
                    best.judgement.limit.value_or(Bytes{}),
                    Bytes{} - best.judgement.headroom,
                    biggest_category(bytes_of(best.prediction, best.judgement.place)),
                    *std::move(change)};
}

// The machine as a plan keeps it.
Result<Machine> lasting_machine(const Setting& setting, const Strategy& strategy,
                                std::int64_t steps) {
  std::set<std::string> used;
  for (const std::int64_t rank : representative_ranks(strategy)) {
    const auto keys = estimator::operations_to_measure(
        {setting.job, strategy, setting.machine, setting.facts, steps}, rank);
    if (!keys) return keys.error();
    used.insert(keys->begin(), keys->end());
  }
  Machine machine = setting.machine;
  std::erase_if(machine.scratch,
                [&](const MeasuredScratch& entry) { return !used.contains(entry.operation); });
  if (machine.backend == Backend::kCpu) {
    const DeviceOptions& asked = setting.job.request.devices;
    if (memory_is_momentary(setting)) machine.device_memory.reset();
    if (!asked.host_memory) machine.host_memory.reset();
  }
  return machine;
}

Result<Plan> lay_out_in_full(const Setting& setting, const SearchResult& found) {
  const Evaluation& chosen = *found.chosen;
  const Job& job = setting.job;
  Plan plan{
      .job = job.request, .model = job.model, .data = setting.facts, .strategy = chosen.strategy};
  plan.layout = place_ranks(job);
  plan.fits = chosen.judgement.fits;
  plan.steps = count_steps(job, setting.facts);
  plan.why = explain_choice(setting, chosen);
  auto machine = lasting_machine(setting, chosen.strategy, plan.steps);
  if (!machine) return machine.error();
  plan.machine = *std::move(machine);
  for (const std::int64_t rank : distinct_ranks(job, chosen.strategy)) {
    auto prediction = estimator::predict_rank(
        {job, chosen.strategy, plan.machine, setting.facts, plan.steps}, rank);
    if (!prediction) return prediction.error();
    plan.predicted.push_back(*std::move(prediction));
  }
  auto others = runners_up(setting, found);
  if (!others) return others.error();
  plan.runners_up = *std::move(others);
  auto programs = program_digests(job, chosen.strategy, plan.machine);
  if (!programs) return programs.error();
  plan.digests = {.model = models::weight_table_digest(job.model),
                  .data = setting.facts ? setting.facts->digest : "",
                  .runtime = digest(job.request.runtime),
                  .machine = machine_digest(plan.machine),
                  .programs = *std::move(programs)};
  return plan;
}

}  // namespace

Result<std::variant<Plan, Infeasible>> make_plan(const Setting& setting) {
  auto found = search(setting);
  if (!found) return found.error();
  if (!found->chosen) {
    auto answer = infeasible(setting, *found);
    if (!answer) return answer.error();
    return std::variant<Plan, Infeasible>(*std::move(answer));
  }
  auto plan = lay_out_in_full(setting, *found);
  if (!plan) return plan.error();
  return std::variant<Plan, Infeasible>(*std::move(plan));
}

std::vector<RankPlace> place_ranks(const Job& job) {
  const DeviceLayout& devices = job.devices;
  std::vector<RankPlace> places;
  for (std::int64_t rank = 0; rank < devices.count(); ++rank) {
    places.push_back({.rank = rank,
                      .node = rank / devices.per_node,
                      .device = rank % devices.per_node,
                      .stage = rank % job.stages(),
                      .data_parallel = rank / job.stages()});
  }
  return places;
}

std::vector<std::int64_t> distinct_ranks(const Job& job, const Strategy& strategy) {
  std::vector<std::int64_t> ranks = {0};
  if (strategy.zero == 0 && strategy.stage_layers.empty()) return ranks;
  for (std::int64_t rank = 1; rank < job.ranks(); ++rank) ranks.push_back(rank);
  return ranks;
}

Result<std::vector<std::string>> program_digests(const Job& job, const Strategy& strategy,
                                                 const Machine& machine) {
  std::vector<std::string> digests;
  for (const std::int64_t rank : distinct_ranks(job, strategy)) {
    auto program = program::lower(job, strategy, machine,
                                  {.kind = program::ProgramKind::kTrain, .rank = rank});
    if (!program) return program.error();
    digests.push_back(program::program_digest(*program));
  }
  return digests;
}

Category biggest_category(const PlaceBytes& bytes) {
  auto biggest = Category::kWeights;
  for (std::size_t c = 1; c < kCategories; ++c) {
    if (bytes[static_cast<Category>(c)] > bytes[biggest]) biggest = static_cast<Category>(c);
  }
  return biggest;
}

}  // namespace ftplan::planner

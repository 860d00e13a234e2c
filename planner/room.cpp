#include "planner/room.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "core/devices.h"
#include "core/job.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/strategy.h"
#include "core/units.h"
#include "planner/cut.h"
#include "planner/search.h"

namespace ftplan::planner {
namespace {

constexpr std::int64_t kMostSequences = 1024;

Result<std::optional<Bytes>> fitting_need(const Setting& setting, const Strategy& strategy,
                                          std::int64_t rank) {
  auto tried = evaluate_ranks(setting, strategy, {rank});
  if (!tried) return tried.error();
  if (tried->judgement.fits != Fits::kYes) return std::optional<Bytes>{};
  return std::optional<Bytes>{tried->judgement.need};
}

// Doubles a value while it fits; `turn` sets it.
template <class Turn>
Result<std::optional<Growth>> grow(const Setting& setting, const Evaluation& chosen,
                                   std::int64_t from, std::int64_t limit, Turn turn) {
  std::optional<Growth> good;
  for (std::int64_t value = 2 * from; value <= limit; value *= 2) {
    Job job = setting.job;
    Strategy strategy = chosen.strategy;
    turn(job, strategy, value);
    const auto need =
        fitting_need({job, setting.machine, setting.facts}, strategy, chosen.prediction.rank);
    if (!need) return need.error();
    if (!*need) break;
    good = Growth{value, **need};
  }
  return good;
}

// The same request on another number of devices; empty where it does not divide.
std::optional<Job> on_devices(const Setting& setting, std::int64_t devices) {
  const DeviceLayout& asked = setting.job.devices;
  DeviceLayout layout = asked;
  layout.per_node = devices < asked.per_node ? devices : asked.per_node;
  layout.nodes = devices / layout.per_node;
  JobRequest request = setting.job.request;
  request.devices.gpus = to_text(layout);
  if (request.devices.memory.size() > 1) return std::nullopt;  // whose memory would it be?
  auto job = validate(request, setting.job.model, setting.facts);
  if (!job) return std::nullopt;
  return *std::move(job);
}

Result<Evaluation> sharded(const Setting& setting, const Strategy& like, std::int64_t zero) {
  const auto strategy = with_stages(setting, strategy_of(setting.job, like.checkpointing, zero,
                                                         setting.job.micro_batch_choices.back()));
  if (!strategy) return strategy.error();
  return evaluate_ranks(setting, *strategy, representative_ranks(*strategy));
}

// With the least sharding that fits; that with the most decides whether any does.
Result<std::optional<Evaluation>> least_sharding(const Setting& setting, const Strategy& like) {
  auto most = sharded(setting, like, setting.job.zero_choices.back());
  if (!most) return most.error();
  if (most->judgement.fits != Fits::kYes) return std::optional<Evaluation>{};
  for (const std::int64_t zero : setting.job.zero_choices) {
    auto tried = sharded(setting, like, zero);
    if (!tried) return tried.error();
    if (tried->judgement.fits == Fits::kYes) return std::optional<Evaluation>{*std::move(tried)};
  }
  return std::optional<Evaluation>{*std::move(most)};
}

}  // namespace

Result<Room> room_left(const Setting& setting, const Evaluation& chosen) {
  Room room;
  auto micro_batch =
      grow(setting, chosen, chosen.strategy.micro_batch, kMostSequences,
           [](Job&, Strategy& strategy, std::int64_t value) { strategy.micro_batch = value; });
  if (!micro_batch) return micro_batch.error();
  room.micro_batch = *micro_batch;
  auto sequence = grow(setting, chosen, setting.job.sequence, setting.job.model.positions,
                       [](Job& job, Strategy&, std::int64_t value) { job.sequence = value; });
  if (!sequence) return sequence.error();
  room.sequence = *sequence;
  if (chosen.strategy.checkpointing.every == 0) return room;
  Strategy strategy = chosen.strategy;
  strategy.checkpointing = {};
  auto kept = fitting_need(setting, strategy, chosen.prediction.rank);
  if (!kept) return kept.error();
  room.kept = *kept;
  return room;
}

Result<std::optional<FewestDevices>> fewest_devices(const Setting& setting, const Strategy& like,
                                                    std::int64_t first, std::int64_t last) {
  const std::int64_t per_node = setting.job.devices.per_node;
  std::vector<std::int64_t> counts;
  for (std::int64_t devices = 1; devices <= last; devices *= 2) {
    const bool whole_nodes = devices < per_node || devices % per_node == 0;
    if (devices >= first && whole_nodes) counts.push_back(devices);
  }
  const auto fits = [&](std::int64_t devices) -> Result<std::optional<Evaluation>> {
    const std::optional<Job> job = on_devices(setting, devices);
    if (!job) return std::optional<Evaluation>{};
    return least_sharding({*job, setting.machine, setting.facts}, like);
  };
  // More devices never need more each: where the most do not fit none do.
  std::optional<FewestDevices> fewest;
  while (!counts.empty()) {
    const std::size_t tried = fewest ? (counts.size() - 1) / 2 : counts.size() - 1;
    const std::int64_t devices = counts[tried];
    auto evaluation = fits(devices);
    if (!evaluation) return evaluation.error();
    const auto at = counts.begin() + static_cast<std::ptrdiff_t>(tried);
    if (*evaluation) {
      fewest = FewestDevices{devices, **std::move(evaluation)};
      counts.erase(at, counts.end());
    } else {
      counts.erase(counts.begin(), at + 1);
    }
  }
  return fewest;
}

}  // namespace ftplan::planner

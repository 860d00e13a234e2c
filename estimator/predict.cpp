#include "estimator/predict.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/check.h"
#include "core/data_options.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/timeline.h"
#include "core/units.h"
#include "models/family.h"
#include "program/lifetimes.h"
#include "program/lower.h"
#include "program/lowering.h"
#include "program/occupancy.h"
#include "program/op_table.h"
#include "program/run_files.h"
#include "program/run_programs.h"
#include "program/step_program.h"
#include "program/walk.h"

namespace ftplan::estimator {
namespace {

using program::ProgramKind;
using program::StepProgram;

// Half-width of the scratch that no one measured on a GPU, as a share of it: cuBLAS and the
// attention kernels choose their algorithm, and with it their workspace, at run time.
constexpr double kScratchInterval = 0.5;

struct Lowered {
  ProgramKind kind = ProgramKind::kLoad;
  StepProgram program;
};

std::size_t index(Place place) { return static_cast<std::size_t>(place); }

Bytes scratch_region(const StepProgram& program) {
  Bytes sum;
  for (const Bytes& region : program.scratch) sum += region;
  return sum;
}

void set_categories(PlaceBytes& bytes, const program::CategoryCounts& counts) {
  for (std::size_t c = 0; c < kCategories; ++c) bytes[static_cast<Category>(c)] = {counts[c]};
}

// `live` inside a mapped region of `mapped` bytes of which `scratch` are the scratch region's.
PlaceBytes mapped_bytes(const program::CategoryCounts& live, Bytes scratch, Bytes runtime,
                        Bytes mapped) {
  PlaceBytes bytes;
  set_categories(bytes, live);
  bytes.scratch += scratch;
  bytes.runtime = runtime;
  bytes.peak = mapped + runtime;
  bytes.unused = mapped - bytes.live();
  FTPLAN_CHECK(bytes.unused >= Bytes{});
  return bytes;
}

// What is taken of the device when most is live.
Bytes held_at(const program::CategoryCounts& peak, const StepProgram& program) {
  return program.allocates ? Bytes{program::sum_of(peak)} + scratch_region(program)
                           : program.arena[index(Place::kDevice)];
}

std::size_t fullest(const std::vector<program::CategoryCounts>& instants) {
  const auto more = [](const auto& a, const auto& b) {
    return program::sum_of(a) < program::sum_of(b);
  };
  return static_cast<std::size_t>(std::max_element(instants.begin(), instants.end(), more) -
                                  instants.begin());
}

// The layer of the model that a step works on; -1 before and behind the layers.
std::int32_t layer_of(const program::StepProgram& program, const program::Step& step) {
  return step.layer < program.layers ? program.model_layer(step.layer) : -1;
}

std::string describe(const Lowered& lowered, const program::Step& step) {
  const program::Instruction& instruction = lowered.program.instruction(step.instruction);
  std::string text = lowered.kind == ProgramKind::kEvaluate ? "evaluation, " : "";
  text += program::phase_name(instruction.phase);
  const std::int32_t layer = layer_of(lowered.program, step);
  if (layer >= 0) text += ", layer " + std::to_string(layer);
  return text + ", " + program::name_of(instruction.op);
}

// Whether scratch is exact everywhere, and how large the region would be without what is not.
struct ScratchFacts {
  bool exact = true;
  Bytes exact_region;
};

ScratchFacts scratch_facts(const StepProgram& program, const Machine& machine) {
  ScratchFacts facts;
  std::array<Bytes, program::kStreams> regions{};
  for (const program::Instruction& instruction : program.instructions) {
    const program::OpView view{program, instruction};
    const program::Scratch scratch = program::row_of(instruction.op).scratch(view, machine);
    if (!scratch.exact) {
      facts.exact = false;
      continue;
    }
    Bytes& region = regions[static_cast<std::size_t>(instruction.stream)];
    region = std::max(region, round_up(scratch.bytes, program::kAlignment));
  }
  for (const Bytes& region : regions) facts.exact_region += region;
  return facts;
}

Result<std::vector<Lowered>> lower_all(const RunSpec& spec, std::int64_t rank) {
  std::vector<Lowered> all;
  for (const program::ProgramRequest& request :
       program::run_programs(spec.job, spec.strategy, rank, spec.facts)) {
    auto lowered = program::lower(spec.job, spec.strategy, spec.machine, request);
    if (!lowered) return lowered.error();
    all.push_back({request.kind, *std::move(lowered)});
  }
  return all;
}

const Lowered& largest(const std::vector<Lowered>& all, Place place) {
  return *std::max_element(all.begin(), all.end(), [&](const Lowered& a, const Lowered& b) {
    return a.program.arena[index(place)] < b.program.arena[index(place)];
  });
}

void predict_device(const std::vector<Lowered>& all, const Machine& machine,
                    RankPrediction& prediction) {
  const Lowered& lowered = largest(all, Place::kDevice);
  const StepProgram& program = lowered.program;
  const program::Walk walk = program::walk(program, program::Sampling::kEnds);
  const auto instants =
      program::occupancy(program, walk, program::lives_of(program, walk), Place::kDevice);
  const std::size_t peak = fullest(instants);
  prediction.arena = held_at(instants[peak], program);
  prediction.persistent = program.persistent[index(Place::kDevice)];
  prediction.lower_bound = {program::sum_of(instants[peak])};
  prediction.scratch = scratch_region(program);
  prediction.peak_instruction = describe(lowered, walk.steps[peak]);
  const Bytes runtime = machine.backend == Backend::kCpu ? Bytes{} : machine.runtime;
  prediction.device = mapped_bytes(instants[peak], prediction.scratch, runtime, prediction.arena);
}

void predict_host(const std::vector<Lowered>& all, RankPrediction& prediction) {
  const StepProgram& program = largest(all, Place::kHost).program;
  const program::Walk walk = program::walk(program, program::Sampling::kEnds);
  const auto instants =
      program::occupancy(program, walk, program::lives_of(program, walk), Place::kHost);
  prediction.host = mapped_bytes(instants[fullest(instants)], Bytes{}, Bytes{},
                                 program.arena[index(Place::kHost)]);
}

// How sure the device's peak is.
void set_basis(const std::vector<Lowered>& all, const Machine& machine,
               RankPrediction& prediction) {
  bool exact = true;
  Bytes guessed;
  for (const Lowered& lowered : all) {
    const ScratchFacts facts = scratch_facts(lowered.program, machine);
    exact = exact && facts.exact;
    guessed = std::max(guessed, scratch_region(lowered.program) - facts.exact_region);
  }
  if (machine.backend == Backend::kCpu) {
    prediction.basis = exact ? Basis::kExecuted : Basis::kFormula;
    prediction.uncertainty = guessed;
    return;
  }
  prediction.basis = Basis::kFormula;
  const double half_width = machine.runtime_interval * static_cast<double>(machine.runtime.value) +
                            kScratchInterval * static_cast<double>(prediction.scratch.value);
  prediction.uncertainty = {static_cast<std::int64_t>(half_width)};
}

std::int64_t steps_per_epoch(const RunSpec& spec) {
  return spec.facts ? divide_up(spec.facts->epoch_rows(), spec.job.global_batch) : 0;
}

void predict_disk(const std::vector<Lowered>& all, const RunSpec& spec,
                  RankPrediction& prediction) {
  for (const Lowered& lowered : all) {
    if (lowered.kind != ProgramKind::kTrain) continue;
    const std::int64_t saves =
        program::checkpoint_count(spec.job, spec.steps, steps_per_epoch(spec));
    const auto share = program::file_share(spec.job, spec.strategy, prediction.rank);
    prediction.disk = program::disk_bytes(
        spec.job, program::checkpoint_tensors(lowered.program, share), saves, share);
    return;
  }
}

RankPrediction predict(const std::vector<Lowered>& all, const RunSpec& spec, std::int64_t rank) {
  RankPrediction prediction{.rank = rank};
  predict_device(all, spec.machine, prediction);
  predict_host(all, prediction);
  predict_disk(all, spec, prediction);
  set_basis(all, spec.machine, prediction);
  return prediction;
}

bool same_bytes(const program::Storage& a, const program::Storage& b) {
  return a.size == b.size && a.category == b.category && a.place == b.place &&
         a.region == b.region && a.copies == b.copies;
}

// Whether the same storages live at the same instructions, whatever these do with them.
bool same_bytes(const Lowered& a, const Lowered& b) {
  const StepProgram& p = a.program;
  const StepProgram& q = b.program;
  return a.kind == b.kind && p.arena == q.arena && p.persistent == q.persistent &&
         p.scratch == q.scratch && p.instructions.size() == q.instructions.size() &&
         p.live.bits == q.live.bits && p.units.size() == q.units.size() &&
         std::equal(p.storages.begin(), p.storages.end(), q.storages.begin(), q.storages.end(),
                    [](const auto& left, const auto& right) { return same_bytes(left, right); });
}

// Programs of the first rank of a kind, and what they hold.
struct RankKind {
  std::vector<Lowered> programs;
  RankPrediction prediction;
};

}  // namespace

Result<RankPrediction> predict_rank(const RunSpec& spec, std::int64_t rank) {
  auto all = lower_all(spec, rank);
  if (!all) return all.error();
  return predict(*all, spec, rank);
}

Result<std::vector<RankPrediction>> predict_ranks(const RunSpec& spec,
                                                  const std::vector<std::int64_t>& ranks) {
  std::vector<RankKind> kinds;
  std::vector<RankPrediction> predictions;
  for (const std::int64_t rank : ranks) {
    auto all = lower_all(spec, rank);
    if (!all) return all.error();
    const auto known = std::find_if(kinds.begin(), kinds.end(), [&](const RankKind& kind) {
      return std::equal(all->begin(), all->end(), kind.programs.begin(), kind.programs.end(),
                        [](const Lowered& a, const Lowered& b) { return same_bytes(a, b); });
    });
    if (known != kinds.end()) {
      predictions.push_back(known->prediction);
      predictions.back().rank = rank;
      continue;
    }
    predictions.push_back(predict(*all, spec, rank));
    kinds.push_back({*std::move(all), predictions.back()});
  }
  return predictions;
}

Result<std::vector<std::string>> operations_to_measure(const RunSpec& spec, std::int64_t rank) {
  std::vector<std::string> keys;
  if (spec.machine.backend != Backend::kCpu) return keys;
  Machine unmeasured = spec.machine;
  unmeasured.scratch.clear();
  auto all = lower_all({spec.job, spec.strategy, unmeasured, spec.facts, spec.steps}, rank);
  if (!all) return all.error();
  for (const Lowered& lowered : *all) {
    for (const program::Instruction& instruction : lowered.program.instructions) {
      const program::OpView view{lowered.program, instruction};
      if (program::row_of(instruction.op).scratch(view, unmeasured).exact) continue;
      keys.push_back(program::scratch_key(view));
    }
  }
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

std::int64_t trainable_parameters(const Job& job) {
  if (!job.lora()) return models::count_parameters(job.model);
  const models::Blueprint blueprint = models::make_blueprint(job.model);
  const auto in_full = [&](const models::Weight& weight) {
    return job.trains(weight.name) ? weight.shape.elements() : 0;
  };
  const auto of_pair = [](const LoraShape& adapter, const models::Weight& weight) {
    return adapter.rank * (weight.shape[0] + weight.shape[1]);
  };
  std::int64_t of_a_layer = 0;
  for (const models::Weight& weight : blueprint.layer) {
    of_a_layer += in_full(weight);
    if (weight.linear < 0 || weight.kind != models::WeightKind::kMatrix) continue;
    of_a_layer += of_pair(job.adapter(weight.linear), weight);
  }
  std::int64_t edges = of_pair(job.embedding_adapter(), blueprint.embedding) +
                       of_pair(job.head_adapter(), blueprint.head) + in_full(blueprint.embedding) +
                       in_full(blueprint.final_norm);
  if (blueprint.final_norm_bias) edges += in_full(*blueprint.final_norm_bias);
  if (!job.model.tied_embeddings) edges += in_full(blueprint.head);
  return of_a_layer * job.model.layers + edges;
}

Timeline simulate(const program::StepProgram& program, std::int64_t rank) {
  const program::Walk walk = program::walk(program, program::Sampling::kAll);
  const auto counts =
      program::occupancy(program, walk, program::lives_of(program, walk), Place::kDevice);
  const Bytes scratch = scratch_region(program);
  Timeline timeline{.rank = rank, .peak = static_cast<std::int64_t>(fullest(counts))};
  const Bytes held = held_at(counts[fullest(counts)], program);
  timeline.instants.reserve(counts.size());
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const program::Step& step = walk.steps[i];
    const program::Instruction& instruction = program.instruction(step.instruction);
    timeline.instants.push_back({.phase = program::phase_name(instruction.phase),
                                 .operation = program::name_of(instruction.op),
                                 .micro_step = step.micro_step,
                                 .layer = layer_of(program, step),
                                 .device = mapped_bytes(counts[i], scratch, Bytes{}, held)});
  }
  return timeline;
}

Judgement judge(const RankPrediction& prediction, const Machine& machine, HostShare share) {
  const bool cpu = machine.backend == Backend::kCpu;
  const Bytes peak = prediction.device.peak + (cpu ? prediction.host.peak : Bytes{});
  Judgement judgement{.need = cpu ? peak : peak + prediction.uncertainty,
                      .limit = machine.device_memory};
  if (judgement.limit) {
    judgement.headroom = *judgement.limit - judgement.need;
    const bool may_fit = peak - prediction.uncertainty <= *judgement.limit;
    judgement.fits = judgement.headroom >= Bytes{} ? Fits::kYes
                     : may_fit                     ? Fits::kTight
                                                   : Fits::kNo;
  }
  // Of several places that are too small the first is named.
  const auto hold = [&](Place place, Bytes need, const std::optional<Bytes>& limit) {
    if (!limit) return Fits::kUnknown;
    if (need <= *limit) return Fits::kYes;
    if (judgement.fits != Fits::kNo) {
      judgement.fits = Fits::kNo;
      judgement.place = place;
      judgement.need = need;
      judgement.limit = limit;
      judgement.headroom = *limit - need;
    }
    return Fits::kNo;
  };
  judgement.host =
      cpu ? judgement.fits
          : hold(Place::kHost, share.ranks * prediction.host.peak, machine.host_memory);
  judgement.disk = hold(Place::kDisk, share.writers * prediction.disk.peak, machine.disk);
  return judgement;
}

}  // namespace ftplan::estimator

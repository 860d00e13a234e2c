#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/category.h"
#include "core/data_options.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/strategy.h"
#include "core/timeline.h"
#include "core/units.h"
#include "program/step_program.h"

/// Reads bytes off the programs that a run executes. There is no other model of memory.
namespace ftplan::estimator {

/// A run whose memory is asked for.
struct RunSpec {
  const Job& job;
  const Strategy& strategy;
  const Machine& machine;
  const std::optional<DataFacts>& facts;
  std::int64_t steps = 0;  ///< of the run, for what it writes; 0 when not known
};

/// Bytes that `rank` will use, from its programs lowered and laid out.
///
/// Device: `peak` is the mapped arena, that of the run's largest program, and on GPUs
/// `Machine::runtime`; the categories are those at the instant of that program with most live
/// bytes; `scratch` is the whole scratch region; `unused` is the rest, so that the lines add up to
/// `peak`. A runtime that takes each tensor from an allocator has no `unused`: its peak is what is
/// allocated at once, of which the allocator reserves more. Host: the arena of the host. Disk: the
/// run's files. On `cpu` the device line has no runtime: what the process holds beside the arena is
/// measured and reported apart; and `uncertainty` is by how much measured scratch may lower the
/// peak, which is exact or a bound.
/// @error what lowering refuses
Result<RankPrediction> predict_rank(const RunSpec& spec, std::int64_t rank);

/// The same of each of `ranks`. Ranks whose programs hold the same storages at the same
/// instructions hold the same bytes, so each kind is walked once.
Result<std::vector<RankPrediction>> predict_ranks(const RunSpec& spec,
                                                  const std::vector<std::int64_t>& ranks);

/// Keys of the operations of a run whose scratch no formula knows exactly, sorted: what calibration
/// measures and what a plan keeps of `Machine::scratch`. Empty on GPUs, where ftplan does not
/// measure yet.
Result<std::vector<std::string>> operations_to_measure(const RunSpec& spec, std::int64_t rank);

/// Parameters that the job trains: all of the model's, or those of the LoRA matrices.
std::int64_t trainable_parameters(const Job& job);

/// The memory of every instruction of `program`, each repetition on its own. In each instant `peak`
/// is what the device holds at most, the arena or the fullest instant.
Timeline simulate(const program::StepProgram& program, std::int64_t rank);

/// A prediction held against what a device and its host have.
struct Judgement {
  Fits fits = Fits::kUnknown;    ///< no where any place that is known is too small
  Place place = Place::kDevice;  ///< kHost, kDisk: what it needs there is what does not fit
  Fits host = Fits::kUnknown;    ///< host memory of all its ranks; on `cpu` shared with the device
  Fits disk = Fits::kUnknown;    ///< files of all ranks of the host
  Bytes need;  ///< the upper end; on `cpu` the peak itself, because scratch is a bound there
  std::optional<Bytes> limit;  ///< empty: not known
  /// What is left at the upper end; negative when it does not fit, 0 when the limit is not known.
  Bytes headroom;
};

/// How many ranks of a host keep something there.
struct HostShare {
  std::int64_t ranks = 1;    ///< whose host bytes add up
  std::int64_t writers = 1;  ///< whose files do: replicas write theirs once
};

/// On `cpu` device and host bytes share `Machine::device_memory`; on GPUs a known host memory must
/// hold the host bytes of all ranks, and a known disk the files of all that write. `tight` on
/// `cpu`: measuring the scratch may make it fit.
Judgement judge(const RankPrediction& prediction, const Machine& machine, HostShare share = {});

}  // namespace ftplan::estimator

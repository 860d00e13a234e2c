#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/category.h"
#include "core/data_options.h"
#include "core/fields.h"
#include "core/job.h"
#include "core/json.h"
#include "core/machine.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/strategy.h"

namespace ftplan {

/// Where a predicted number comes from.
enum class Basis : std::uint8_t {
  kExecuted,    ///< this operation on this backend was run and measured, or its formula is exact
  kCalibrated,  ///< measured on another machine of this kind
  kFormula,     ///< a formula with an interval
};
template <>
inline constexpr auto names<Basis> =
    std::array{Name{Basis::kExecuted, "executed"}, Name{Basis::kCalibrated, "calibrated"},
               Name{Basis::kFormula, "formula"}};

/// Whether the upper end of a prediction fits; `tight`: only its lower end does.
enum class Fits : std::uint8_t { kYes, kTight, kNo, kUnknown };
template <>
inline constexpr auto names<Fits> =
    std::array{Name{Fits::kYes, "yes"}, Name{Fits::kTight, "tight"}, Name{Fits::kNo, "no"},
               Name{Fits::kUnknown, "unknown"}};

/// Bytes that one rank will use, by place. Categories are those at the instant of the peak.
struct RankPrediction {
  std::int64_t rank = 0;
  std::string peak_instruction;
  Basis basis = Basis::kFormula;
  Bytes uncertainty;  ///< half-width of the device's peak; 0 when it is exact
  Bytes arena;        ///< device bytes that are mapped, scratch included
  Bytes persistent;   ///< of them, what lives across steps
  Bytes lower_bound;  ///< largest sum of live device bytes, scratch left out
  Bytes scratch;      ///< size of the scratch region
  PlaceBytes device, host, disk;

  friend bool operator==(const RankPrediction&, const RankPrediction&) = default;
};

template <>
inline constexpr auto fields<RankPrediction> = std::tuple{
    Field{"rank", &RankPrediction::rank, "", Range{0, 1e9}, "Rank."},
    Field{"peak_instruction", &RankPrediction::peak_instruction, "What runs at the peak."},
    Field{"basis", &RankPrediction::basis, "Where the numbers come from."},
    Field{"uncertainty", &RankPrediction::uncertainty, "Half-width of the device's peak."},
    Field{"arena", &RankPrediction::arena, "Device bytes that are mapped."},
    Field{"persistent", &RankPrediction::persistent, "Of them, what lives across steps."},
    Field{"lower_bound", &RankPrediction::lower_bound,
          "Largest sum of live bytes, scratch left out."},
    Field{"scratch", &RankPrediction::scratch, "Size of the scratch region."},
    Field{"device", &RankPrediction::device, "Device bytes at the peak."},
    Field{"host", &RankPrediction::host, "Host bytes at the peak."},
    Field{"disk", &RankPrediction::disk, "Bytes of files at the peak."}};

/// A strategy that was not chosen, and by what it lost.
struct RunnerUp {
  Strategy strategy;
  Bytes peak;
  std::string lost_by;
  friend bool operator==(const RunnerUp&, const RunnerUp&) = default;
};
template <>
inline constexpr auto fields<RunnerUp> =
    std::tuple{Field{"strategy", &RunnerUp::strategy, "What was tried."},
               Field{"peak", &RunnerUp::peak, "Its device peak."},
               Field{"lost_by", &RunnerUp::lost_by, "Why it is not the plan."}};

/// Fingerprints of what a plan was made for; a run that differs is refused.
struct PlanDigests {
  std::string model;                  ///< of the table of weights: names, shapes, types
  std::string data;                   ///< of the tokenized rows; empty without data
  std::string runtime;                ///< of the runtime profile
  std::string machine;                ///< of `Machine`
  std::vector<std::string> programs;  ///< of the laid-out training program of each distinct rank
  friend bool operator==(const PlanDigests&, const PlanDigests&) = default;
};
template <>
inline constexpr auto fields<PlanDigests> = std::tuple{
    Field{"model", &PlanDigests::model, "Table of weights."},
    Field{"data", &PlanDigests::data, "Tokenized rows."},
    Field{"runtime", &PlanDigests::runtime, "Runtime profile."},
    Field{"machine", &PlanDigests::machine, "Machine."},
    Field{"programs", &PlanDigests::programs, "Training program of each distinct rank."}};

/// Where a rank runs.
struct RankPlace {
  std::int64_t rank = 0, node = 0, device = 0, stage = 0, data_parallel = 0;
  friend bool operator==(const RankPlace&, const RankPlace&) = default;
};
template <>
inline constexpr auto fields<RankPlace> = std::tuple{
    Field{"rank", &RankPlace::rank, "", Range{0, 1e9}, "Rank."},
    Field{"node", &RankPlace::node, "", Range{0, 1e9}, "Node."},
    Field{"device", &RankPlace::device, "", Range{0, 1e9}, "Device of the node."},
    Field{"stage", &RankPlace::stage, "", Range{0, 1e9}, "Pipeline stage."},
    Field{"data_parallel", &RankPlace::data_parallel, "", Range{0, 1e9}, "Data-parallel index."}};

/// `plan.json`: what will be done. The executor and the reports see nothing else.
struct Plan {
  std::int64_t format_version = 1;
  JobRequest job;
  ModelConfig model;
  std::optional<DataFacts> data;
  Strategy strategy;
  std::vector<RankPlace> layout;
  Machine machine;
  std::vector<RankPrediction> predicted;
  Fits fits = Fits::kUnknown;
  std::int64_t steps = 0;
  std::vector<std::string> why;
  std::vector<RunnerUp> runners_up;
  PlanDigests digests;

  friend bool operator==(const Plan&, const Plan&) = default;
};

template <>
inline constexpr auto fields<Plan> =
    std::tuple{Field{"format_version", &Plan::format_version, "", Range{1, 1.5},
                     "Version of this file's form."},
               Field{"job", &Plan::job, "What was wanted."},
               Field{"model", &Plan::model, "The resolved model."},
               Field{"data", &Plan::data, "What the data has become."},
               Field{"strategy", &Plan::strategy, "What was chosen."},
               Field{"layout", &Plan::layout, "Where each rank runs."},
               Field{"machine", &Plan::machine, "What is known of the device."},
               Field{"predicted", &Plan::predicted, "Bytes of each distinct rank."},
               Field{"fits", &Plan::fits, "Whether it fits."},
               Field{"steps", &Plan::steps, "steps", Range{0, 1e12}, "Optimizer steps."},
               Field{"why", &Plan::why, "Why this strategy, in sentences."},
               Field{"runners_up", &Plan::runners_up, "What else was tried."},
               Field{"digests", &Plan::digests, "What the plan was made for."}};

/// Reads `plan.json` text strictly; `where` names it in errors.
Result<Plan> read_plan(std::string_view text, const std::string& where);
std::string render_plan(const Plan& plan);

/// No layout fits: an answer, not an error.
struct Infeasible {
  Strategy best_strategy;
  RankPrediction prediction;
  Bytes limit;
  Bytes deficit;
  Category biggest_category = Category::kWeights;
  std::string smallest_change;  ///< flags that would make it fit, or why none would
};

}  // namespace ftplan

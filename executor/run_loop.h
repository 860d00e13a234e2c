#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "core/job.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/run_result.h"
#include "data/data_set.h"
#include "data/tokenizer.h"
#include "executor/process_group.h"

namespace ftplan::executor {

/// What a progress line shows.
struct Progress {
  std::int64_t step = 0;  ///< steps done
  std::int64_t steps = 0;
  double loss = 0;
  double tokens_per_second = 0;
  double seconds_left = 0;
  std::int64_t skipped_steps = 0;  ///< so far, because fp16 gradients were not finite
  Bytes device_peak;
};

struct RunOptions {
  std::string model;                ///< folder with the weights
  std::string output;               ///< run folder
  std::string adapter;              ///< to continue from; may be empty
  data::TokenizerSource tokenizer;  ///< for the result
  /// Of what decides losses, 16 hexadecimal digits: checkpoints of others are refused.
  std::string plan_digest;
  const std::atomic<bool>* stop =
      nullptr;                    ///< set by a signal: the step is finished, the state saved
  ProcessGroup* group = nullptr;  ///< of a run of several ranks; all of them call `run_plan`
  std::function<void(const Progress&)> progress;  ///< may be empty
  std::function<void(const std::string&)> note;   ///< one line for the user; may be empty
};

struct RunOutcome {
  RunResult measured;
  std::string result;  ///< folder of adapter or model
  std::int64_t steps = 0;
  bool was_complete = false;  ///< nothing was left to do
  double last_loss = 0;
  std::int64_t skipped_steps = 0;  ///< as in `Progress`
};

/// Fine-tunes as planned on this process's rank. Continues from the newest checkpoint of the run
/// folder, bitwise as if it had never stopped. Rank 0 writes what belongs to no rank: metrics, the
/// result and measured.json, which has every rank.
/// @error bad input: plan, model or data are not those of the plan; infeasible: no memory; run
/// failed: the loss is not
///        finite, no loss scale keeps fp16 gradients finite, or the disk is full; interrupted: the
///        state is saved
Result<RunOutcome> run_plan(const Plan& plan, const Job& job, const data::DataSet& data,
                            const RunOptions& options);

}  // namespace ftplan::executor

#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/data_options.h"
#include "core/job.h"
#include "core/loss_scale.h"
#include "core/machine.h"
#include "core/run_result.h"
#include "core/strategy.h"
#include "executor/loader.h"
#include "executor/session.h"
#include "executor/trace.h"
#include "program/lowering.h"
#include "program/run_files.h"
#include "program/step_program.h"

namespace ftplan::executor {

/// Everything one rank of a run is made for.
struct RankSetup {
  Job job;
  Strategy strategy;
  Machine machine;
  std::int64_t rank = 0;
  std::optional<DataFacts> facts;
  Communicator* communicator = nullptr;
  std::vector<program::ProgramRequest> programs{};  ///< empty: those of a fine-tuning run
};

/// Fills the arrays of one micro-step; see `program::Interface` for their shapes.
using FillBatch = std::function<void(std::int32_t micro_step, const std::array<View, 8>& to)>;

/// Takes one weight or half of a LoRA pair: of `adapter` and `weight` one is null.
struct StoredValues {
  const program::WeightBinding* weight = nullptr;
  const program::AdapterBinding* adapter = nullptr;
  std::int32_t layer = 0;
  View values;
};
using Store = std::function<Result<void>(const StoredValues&)>;

/// What the executor writes before a step.
struct StepInput {
  std::int64_t step = 0;  ///< from 0
  double learning_rate = 0;
  std::int64_t target_tokens = 0;  ///< of the whole global batch
};

struct StepOutput {
  double loss = 0;           ///< mean over the global batch's target tokens
  double gradient_norm = 0;  ///< before clipping, of the loss itself
  bool finite = true;        ///< else the update was left out
  double loss_scale = 1;     ///< by which the gradients were larger
};

/// How the next token is chosen.
struct Sampling {
  double temperature = 0;  ///< 0: the likeliest token, whatever the rest says
  std::int64_t top_k = 0;  ///< likeliest tokens that are chosen from; 0: all
  double top_p = 1;        ///< share of the probability that is chosen from
  std::int64_t seed = 0;
};

/// What the executor writes before a prompt or a token.
struct TokenInput {
  std::int64_t cache_length = 0;  ///< tokens in the caches before this pass
  std::int64_t made = 0;          ///< tokens made before this one
  Sampling sampling;
};

/// One rank: its programs, its memory, its model.
class RankRun final : public Host {
 public:
  using Key = std::pair<program::ProgramKind, std::int64_t>;  ///< and length of its rows

  /// Lowers all programs of the run and maps their arenas.
  /// @error infeasible: there is not enough memory
  static Result<std::unique_ptr<RankRun>> create(RankSetup setup);

  /// Weights, adapters, moments and tables. @param loader outlives the call
  Result<void> load(const Loader& loader);

  /// One optimizer step on rows padded to `length`. @pre `load`, and a length of the facts
  Result<StepOutput> train(std::int64_t length, const StepInput& input, const FillBatch& fill);
  /// Runs a prompt (kPrefill) or one token (kDecode) and returns the next id of each row.
  Result<std::vector<std::int32_t>> generate(Key key, const TokenInput& input,
                                             const FillBatch& fill);
  /// Sum of the losses of one batch of held-out rows.
  Result<double> evaluate(std::int64_t length, const FillBatch& fill);

  /// Hands all that is trained to `store`, whole, one tensor after the other. Where ranks keep
  /// parts of the weights all must do so together; after an error of `store` it is not called
  /// again.
  Result<void> save(const Store& store);

  /// Trained values and states, as a checkpoint has them; of what ranks share, this one's part.
  [[nodiscard]] const std::vector<program::StateTensor>& state_tensors() const { return states_; }
  [[nodiscard]] std::span<std::byte> state(const program::StateTensor& tensor) const;
  /// What this rank writes and reads of the run's files.
  [[nodiscard]] program::FileShare file_share() const;
  /// Makes the weights again from their masters, after states were written: where units are cut,
  /// the rank's part of them.
  void restore_weights();
  /// Weights that each rank has whole though each restores a part of them: rank r the r-th of as
  /// many equal parts as there are ranks.
  [[nodiscard]] std::vector<std::span<std::byte>> assembled_weights() const;
  /// Of the next step; empty where the loss is not scaled. A checkpoint has it beside the states.
  [[nodiscard]] const std::optional<LossScale>& loss_scale() const { return loss_scale_; }
  void restore(const LossScale& scale) { loss_scale_ = scale; }
  /// Steps so far whose update was left out: they count neither in the learning rate's schedule nor
  /// in the moments' bias correction, as in HF Trainer.
  [[nodiscard]] std::int64_t skipped_steps() const {
    return loss_scale_ ? loss_scale_->skipped : 0;
  }
  /// A trained half of a LoRA pair. @pre ranks do not keep parts of it
  [[nodiscard]] View adapter(const program::AdapterBinding& binding, std::int32_t layer) const;
  [[nodiscard]] View weight(const program::WeightBinding& binding, std::int32_t layer) const;
  /// Any of the programs: they agree on weights, units and all that lives across them.
  [[nodiscard]] const program::StepProgram& some_program() const {
    return entries_.rbegin()->second->program;
  }
  [[nodiscard]] const Arenas& arenas() const { return arenas_; }
  [[nodiscard]] const RankSetup& setup() const { return setup_; }

  /// Device and host bytes as measured while each program ran for the first time.
  [[nodiscard]] RankBytes measured() const;

  // For tests that change programs or choose the order of steps: before `load`.
  [[nodiscard]] std::vector<Key> keys() const;
  [[nodiscard]] program::StepProgram& program(Key key) { return entries_.at(key)->program; }
  [[nodiscard]] Session& session(Key key);
  [[nodiscard]] SessionOptions& session_options() { return options_; }
  void set_fill(const FillBatch* fill) { fill_ = fill; }
  [[nodiscard]] Scalars scalars_of(const StepInput& input) const;

  Result<void> load(const program::WeightBinding& weight, std::int32_t layer, const View& to,
                    std::int64_t begin) override;
  Result<void> store(const Call& call) override;
  Result<void> load_nf4(const program::WeightBinding& weight, std::int32_t layer,
                        const Call& call) override;
  Result<void> load_int8(const program::WeightBinding& weight, std::int32_t layer,
                         const Call& call) override;
  Result<void> init_adapter(const program::AdapterBinding& adapter, std::int32_t layer,
                            const View& to) override;
  Result<void> batch(std::int32_t micro_step, const std::array<View, 8>& to) override;

 private:
  struct Entry {
    program::StepProgram program;
    std::unique_ptr<Session> session;
    bool measured = false;
  };

  explicit RankRun(RankSetup setup) : setup_(std::move(setup)) {}
  void check_shared_state() const;
  Result<void> run(Key key, Scalars& scalars);
  Result<void> save_whole(const Store& store) const;
  [[nodiscard]] View view(program::TensorId tensor, std::int32_t layer) const;
  [[nodiscard]] View view_of(const program::StepProgram& program, program::TensorId id,
                             std::int32_t layer) const;

  RankSetup setup_;
  SessionOptions options_;
  std::map<Key, std::unique_ptr<Entry>> entries_;
  Arenas arenas_;
  std::vector<program::StateTensor> states_;
  std::optional<LossScale> loss_scale_;
  const Loader* loader_ = nullptr;
  const FillBatch* fill_ = nullptr;
  const Store* store_ = nullptr;
  PlaceBytes device_, host_;  // at the largest peak so far
};

}  // namespace ftplan::executor

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/category.h"
#include "core/dtype.h"
#include "core/job.h"
#include "core/loss_scale.h"
#include "core/strategy.h"
#include "models/adapter.h"
#include "models/adapter_config.h"
#include "models/safetensors_header.h"
#include "models/shards.h"
#include "program/step_program.h"

/// The files of weights and states that a run writes. Logs, plans and tokenizer files are not
/// counted as its bytes.
namespace ftplan::program {

/// What one tensor of a checkpoint is a copy of.
enum class StatePart : std::uint8_t { kValues, kMoment1, kMoment2, kScale1, kScale2 };

/// What a rank writes of a run's files. Where states are sharded each writes its part of every
/// unit, else rank 0 all; the result is rank 0's.
struct FileShare {
  std::int64_t part = 0;
  std::int64_t parts = 1;     ///< into which units are cut
  bool writes_states = true;  ///< its part
  bool writes_result = true;
  friend bool operator==(const FileShare&, const FileShare&) = default;
};
FileShare file_share(const Job& job, const Strategy& strategy, std::int64_t rank);

/// A tensor of a checkpoint: the flat, padded values of one unit of one layer, or a part of them.
/// Values are the f32 masters where there are any, else the weights; 16-bit weights come from their
/// masters by rounding.
struct StateTensor {
  std::int32_t unit = 0;  ///< in `StepProgram::units`
  std::int32_t layer = 0;
  StatePart part = StatePart::kValues;
  models::TensorSpec spec;
  Category category = Category::kWeights;  ///< adapters, weights or optimizer
  std::int64_t first = 0;  ///< element of the tensor in memory at which the part begins
};

/// Where a part of a unit is; kNone where the optimizer has no such state.
TensorId tensor_of(const TrainedUnit& unit, StatePart part);

/// All that a resumed run needs beside plan and model, or the share's part of it. @pre a training
/// program
std::vector<StateTensor> checkpoint_tensors(const StepProgram& train, const FileShare& share = {});

/// Those of `all` that are kept of the best state: values without the optimizer's states.
std::vector<StateTensor> best_tensors(const std::vector<StateTensor>& all);

/// What the evaluations of a run have found so far.
struct BestState {
  std::int64_t step = 0;   ///< after which the validation loss was lowest; 0: none was finite yet
  double loss = 0;         ///< that loss
  std::int64_t worse = 0;  ///< evaluations since the last one that was an improvement
  friend bool operator==(const BestState&, const BestState&) = default;
};

/// What a checkpoint says beside its tensors.
struct CheckpointState {
  std::int64_t step = 0;  ///< optimizer steps that are done
  BestState best;
  std::optional<LossScale> loss_scale;  ///< of a run in fp16
  friend bool operator==(const CheckpointState&, const CheckpointState&) = default;
};

/// Metadata of a checkpoint, without its digest. Its length does not depend on the values.
/// @param plan_digest 16 hexadecimal digits
models::Metadata checkpoint_metadata(const CheckpointState& state, const std::string& plan_digest);

/// Empty when it is not the metadata of a checkpoint.
std::optional<CheckpointState> checkpoint_state(const models::Metadata& metadata);

/// The metadata with the digest in it.
/// @param digest of the metadata without it and the bytes of all tensors, 32 hexadecimal digits
models::Metadata with_digest(models::Metadata metadata, const std::string& digest);

/// With which a run begins; empty where the loss is not scaled.
std::optional<LossScale> first_loss_scale(const Job& job);

/// What `adapter/` says of itself.
models::AdapterConfig adapter_config_of(const Job& job);

/// Matrices are f32; weights trained in full are as full fine-tuning writes them.
models::AdapterTypes adapter_types(const Job& job);

/// What the values of a tensor in the result's files are.
Category category_in_result(std::string_view tensor);

/// Of the weights that full fine-tuning writes: the run's precision.
DType result_dtype(const Job& job);

/// What `model/` holds after full fine-tuning, in `result_dtype`.
models::ShardPlan model_shards(const Job& job);

/// Bytes on disk at the fullest instant of an uninterrupted run of `saves` checkpoints, the one at
/// the end included: of those that are kept the oldest is removed once a new one is complete, and
/// the result is written beside what is kept. The best state is never larger than a checkpoint, so
/// writing it anew beside the old one is not the fullest instant.
/// @param states of `checkpoint_tensors` for the same share
PlaceBytes disk_bytes(const Job& job, const std::vector<StateTensor>& states, std::int64_t saves,
                      const FileShare& share = {});

/// Checkpoints that a run of `steps` writes, the one at its end included.
std::int64_t checkpoint_count(const Job& job, std::int64_t steps, std::int64_t steps_per_epoch);

}  // namespace ftplan::program

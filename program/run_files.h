#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/category.h"
#include "core/dtype.h"
#include "core/job.h"
#include "core/loss_scale.h"
#include "models/adapter_config.h"
#include "models/safetensors_header.h"
#include "models/shards.h"
#include "program/step_program.h"

/// The files of weights and states that a run writes. Logs, plans and tokenizer files are not
/// counted as its bytes.
namespace ftplan::program {

/// What one tensor of a checkpoint is a copy of.
enum class StatePart : std::uint8_t { kValues, kMoment1, kMoment2, kScale1, kScale2 };

/// A tensor of a checkpoint: the flat, padded values of one unit of one layer. Values are the f32
/// masters where there are any, else the weights; 16-bit weights come from their masters by
/// rounding.
struct StateTensor {
  std::int32_t unit = 0;  ///< in `StepProgram::units`
  std::int32_t layer = 0;
  StatePart part = StatePart::kValues;
  models::TensorSpec spec;
};

/// Where a part of a unit is; kNone where the optimizer has no such state.
TensorId tensor_of(const TrainedUnit& unit, StatePart part);

/// All that a resumed run needs beside plan and model. @pre a training program
std::vector<StateTensor> checkpoint_tensors(const StepProgram& train);

/// Metadata of a checkpoint after `step` optimizer steps. Its length does not depend on the values.
/// @param plan_digest 16 hexadecimal digits
/// @param state_digest of the bytes of all tensors in their order, 32 hexadecimal digits
/// @param loss_scale of a run in fp16
models::Metadata checkpoint_metadata(std::int64_t step, const std::string& plan_digest,
                                     const std::string& state_digest,
                                     const std::optional<LossScale>& loss_scale);

/// With which a run begins; empty where the loss is not scaled.
std::optional<LossScale> first_loss_scale(const Job& job);

Bytes checkpoint_bytes(const Job& job, const StepProgram& train);

/// What `adapter/` says of itself.
models::AdapterConfig adapter_config_of(const Job& job);

/// Of the weights that full fine-tuning writes: the run's precision.
DType result_dtype(const Job& job);

/// What `model/` holds after full fine-tuning, in `result_dtype`.
models::ShardPlan model_shards(const Job& job);

/// Bytes on disk at the fullest instant of an uninterrupted run of `saves` checkpoints, the one at
/// the end included: a checkpoint is removed once its successor is complete, and the result is
/// written beside the last.
PlaceBytes disk_bytes(const Job& job, const StepProgram& train, std::int64_t saves);

/// Checkpoints that a run of `steps` writes, the one at its end included.
std::int64_t checkpoint_count(const Job& job, std::int64_t steps, std::int64_t steps_per_epoch);

}  // namespace ftplan::program

#include "program/run_files.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/check.h"
#include "core/dtype.h"
#include "core/job.h"
#include "core/linear_value.h"
#include "core/loss_scale.h"
#include "core/method.h"
#include "core/training.h"
#include "core/units.h"
#include "models/adapter.h"
#include "models/adapter_config.h"
#include "models/family.h"
#include "models/safetensors_header.h"
#include "models/shards.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

constexpr std::array kParts = {
    std::pair{StatePart::kValues, "values"}, std::pair{StatePart::kMoment1, "moment1"},
    std::pair{StatePart::kMoment2, "moment2"}, std::pair{StatePart::kScale1, "scale1"},
    std::pair{StatePart::kScale2, "scale2"}};

std::vector<models::TensorSpec> specs_of(const std::vector<StateTensor>& tensors) {
  std::vector<models::TensorSpec> specs;
  specs.reserve(tensors.size());
  for (const StateTensor& tensor : tensors) specs.push_back(tensor.spec);
  return specs;
}

}  // namespace

TensorId tensor_of(const TrainedUnit& unit, StatePart part) {
  switch (part) {
    case StatePart::kMoment1:
      return unit.moment1;
    case StatePart::kMoment2:
      return unit.moment2;
    case StatePart::kScale1:
      return unit.scale1;
    case StatePart::kScale2:
      return unit.scale2;
    case StatePart::kValues:
      break;
  }
  return unit.master == kNone ? unit.weights : unit.master;
}

std::vector<StateTensor> checkpoint_tensors(const StepProgram& train) {
  std::vector<StateTensor> tensors;
  for (std::size_t u = 0; u < train.units.size(); ++u) {
    const TrainedUnit& unit = train.units[u];
    for (std::int32_t layer = 0; layer < unit.layers; ++layer) {
      const std::string place =
          unit.per_layer ? std::string(unit.name) + "." + std::to_string(layer) : unit.name;
      for (const auto& [part, name] : kParts) {
        const TensorId id = tensor_of(unit, part);
        if (id == kNone) continue;
        const Tensor& tensor = train.tensor(id);
        tensors.push_back({static_cast<std::int32_t>(u),
                           layer,
                           part,
                           {place + "." + name, tensor.dtype, tensor.shape}});
      }
    }
  }
  return tensors;
}

models::Metadata checkpoint_metadata(std::int64_t step, const std::string& plan_digest,
                                     const std::string& state_digest,
                                     const std::optional<LossScale>& loss_scale) {
  FTPLAN_CHECK(plan_digest.size() == 16 && state_digest.size() == 32);
  std::array<char, 16> digits{};
  (void)std::snprintf(digits.data(), digits.size(), "%012lld", static_cast<long long>(step));
  models::Metadata metadata = {{"digest", state_digest}, {"format", "ftplan-checkpoint-1"}};
  if (loss_scale) metadata.emplace_back("loss_scale", to_text(*loss_scale));
  metadata.emplace_back("plan", plan_digest);
  metadata.emplace_back("step", digits.data());
  return metadata;
}

std::optional<LossScale> first_loss_scale(const Job& job) {
  if (!scales_loss(job.request.method.precision)) return std::nullopt;
  LossScale scale;
  if (job.request.training.loss_scale)
    scale.scale = static_cast<float>(*job.request.training.loss_scale);
  return scale;
}

Bytes checkpoint_bytes(const Job& job, const StepProgram& train) {
  return models::file_size(
      specs_of(checkpoint_tensors(train)),
      checkpoint_metadata(0, std::string(16, '0'), std::string(32, '0'), first_loss_scale(job)));
}

models::AdapterConfig adapter_config_of(const Job& job) {
  const MethodOptions& method = job.request.method;
  models::AdapterConfig config{.base_model = job.request.model,
                               .rank = method.rank,
                               .alpha = method.alpha,
                               .dropout = method.dropout,
                               .rslora = method.rslora};
  const std::vector<std::string>& linears = linear_names(job.model.family);
  for (std::size_t linear = 0; linear < linears.size(); ++linear) {
    if (job.adapters[linear].rank > 0) config.targets.push_back(linears[linear]);
  }
  for (const LinearValue& entry : method.rank_pattern)
    config.rank_pattern.emplace_back(entry.linear, static_cast<std::int64_t>(entry.value));
  for (const LinearValue& entry : method.alpha_pattern)
    config.alpha_pattern.emplace_back(entry.linear, entry.value);
  return config;
}

DType result_dtype(const Job& job) { return dtype_of(job.request.method.precision); }

models::ShardPlan model_shards(const Job& job) {
  std::vector<models::TensorSpec> specs;
  for (const models::Weight& weight :
       models::all_weights(models::make_blueprint(job.model), job.model)) {
    specs.push_back({weight.name, result_dtype(job), weight.shape});
  }
  return models::plan_shards(specs);
}

std::int64_t checkpoint_count(const Job& job, std::int64_t steps, std::int64_t steps_per_epoch) {
  const Cadence& every = job.request.training.save_every;
  const std::int64_t period = every.epoch ? steps_per_epoch : every.steps;
  // The one at the end replaces one that would fall on the same step.
  return 1 + (period > 0 && steps > 0 ? (steps - 1) / period : 0);
}

PlaceBytes disk_bytes(const Job& job, const StepProgram& train, std::int64_t saves) {
  PlaceBytes states;
  for (const StateTensor& tensor : checkpoint_tensors(train)) {
    const Category values = job.lora() ? Category::kAdapters : Category::kWeights;
    states[tensor.part == StatePart::kValues ? values : Category::kOptimizer] +=
        tensor.spec.bytes();
  }
  const Bytes checkpoint = checkpoint_bytes(job, train);
  Bytes result;
  Bytes values;
  if (job.lora()) {
    const models::AdapterConfig config = adapter_config_of(job);
    result = models::adapter_disk_bytes(config, job.model, DType::kF32);
    for (const auto& spec : models::adapter_specs(config, job.model, DType::kF32))
      values += spec.bytes();
  } else {
    const models::ShardPlan shards = model_shards(job);
    result = shards.disk_bytes();
    values = shards.tensor_bytes();
  }
  PlaceBytes disk = states;
  if (saves > 1 && checkpoint > result) {
    for (std::size_t i = 0; i < kCategories; ++i) {
      const auto category = static_cast<Category>(i);
      disk[category] += states[category];
    }
    disk.peak = checkpoint + checkpoint;
  } else {
    disk[job.lora() ? Category::kAdapters : Category::kWeights] += values;
    disk.peak = checkpoint + result;
  }
  // Headers and what the shape of files adds.
  disk.unused = disk.peak - disk.live();
  return disk;
}

}  // namespace ftplan::program

#include "program/run_files.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/check.h"
#include "core/dtype.h"
#include "core/job.h"
#include "core/linear_value.h"
#include "core/loss_scale.h"
#include "core/method.h"
#include "core/strategy.h"
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

constexpr const char* kFormat = "ftplan-checkpoint-1";
constexpr const char* kLossScale = "loss_scale";
constexpr std::size_t kIntegerWidth = 12;
constexpr std::size_t kNumberWidth = 24;

// Leading zeros, so that a header is as long after any step.
std::string padded(const std::string& text, std::size_t width) {
  FTPLAN_CHECK(text.size() <= width);
  return std::string(width - text.size(), '0') + text;
}

std::string fixed_width(std::int64_t value) { return padded(std::to_string(value), kIntegerWidth); }

// 17 significant digits are the same bits when they are read again.
std::string fixed_width(double value) {
  std::array<char, kNumberWidth> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value,
                                 std::chars_format::scientific, 16);
  return padded({text.data(), end.ptr}, kNumberWidth);
}

template <class Number>
bool read_number(const models::Metadata& metadata, std::string_view key, Number& number) {
  const std::string text = models::value_of(metadata, key);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

// Headers and what the shape of files adds are not live.
PlaceBytes with_peak(PlaceBytes bytes, Bytes peak) {
  bytes.peak = peak;
  bytes.unused = peak - bytes.live();
  return bytes;
}

PlaceBytes checkpoint_bytes(const Job& job, const std::vector<StateTensor>& tensors) {
  PlaceBytes bytes;
  for (const StateTensor& tensor : tensors) bytes[tensor.category] += tensor.spec.bytes();
  const models::Metadata metadata =
      with_digest(checkpoint_metadata({.loss_scale = first_loss_scale(job)}, std::string(16, '0')),
                  std::string(32, '0'));
  return with_peak(bytes, models::file_size(specs_of(tensors), metadata));
}

PlaceBytes result_bytes(const Job& job) {
  PlaceBytes bytes;
  if (!job.lora()) {
    const models::ShardPlan shards = model_shards(job);
    bytes[Category::kWeights] = shards.tensor_bytes();
    return with_peak(bytes, shards.disk_bytes());
  }
  const models::AdapterConfig config = adapter_config_of(job);
  const models::AdapterTypes types = adapter_types(job);
  for (const auto& spec : models::adapter_specs(config, job.model, types))
    bytes[category_in_result(spec.name)] += spec.bytes();
  return with_peak(bytes, models::adapter_disk_bytes(config, job.model, types));
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

FileShare file_share(const Job& job, const Strategy& strategy, std::int64_t rank) {
  const bool first = rank == 0;
  if (strategy.zero >= 1 && job.ranks() > 1)
    return {.part = rank, .parts = job.ranks(), .writes_result = first};
  return {.writes_states = first, .writes_result = first};
}

std::vector<StateTensor> checkpoint_tensors(const StepProgram& train, const FileShare& share) {
  std::vector<StateTensor> tensors;
  for (std::size_t u = 0; u < train.units.size(); ++u) {
    const TrainedUnit& unit = train.units[u];
    for (std::int32_t layer = 0; layer < unit.layers; ++layer) {
      const std::string place =
          unit.per_layer ? std::string(unit.name) + "." + std::to_string(train.model_layer(layer))
                         : unit.name;
      for (const auto& [part, name] : kParts) {
        const TensorId id = tensor_of(unit, part);
        if (id == kNone) continue;
        const Tensor& tensor = train.tensor(id);
        const Category values = train.storage_of(unit.weights).category;
        StateTensor state{static_cast<std::int32_t>(u),
                          layer,
                          part,
                          {place + "." + name, tensor.dtype, tensor.shape},
                          part == StatePart::kValues ? values : Category::kOptimizer};
        // Weights that every rank has whole; states are the rank's part as they are.
        const bool whole = part == StatePart::kValues && tensor.shape.elements() == unit.elements;
        if (whole && share.parts > 1) {
          const std::int64_t elements = unit.elements / share.parts;
          state.first = share.part * elements;
          state.spec.shape = {elements};
        }
        tensors.push_back(std::move(state));
      }
    }
  }
  return tensors;
}

std::vector<StateTensor> best_tensors(const std::vector<StateTensor>& all) {
  std::vector<StateTensor> best;
  std::copy_if(all.begin(), all.end(), std::back_inserter(best),
               [](const StateTensor& tensor) { return tensor.part == StatePart::kValues; });
  return best;
}

models::Metadata checkpoint_metadata(const CheckpointState& state, const std::string& plan_digest) {
  FTPLAN_CHECK(plan_digest.size() == 16);
  models::Metadata metadata = {{"best_loss", fixed_width(state.best.loss)},
                               {"best_step", fixed_width(state.best.step)},
                               {"format", kFormat},
                               {"plan", plan_digest},
                               {"step", fixed_width(state.step)},
                               {"worse_evaluations", fixed_width(state.best.worse)}};
  if (state.loss_scale) metadata.emplace_back(kLossScale, to_text(*state.loss_scale));
  std::sort(metadata.begin(), metadata.end());
  return metadata;
}

std::optional<CheckpointState> checkpoint_state(const models::Metadata& metadata) {
  CheckpointState state;
  const bool complete = models::value_of(metadata, "format") == kFormat &&
                        read_number(metadata, "step", state.step) &&
                        read_number(metadata, "best_step", state.best.step) &&
                        read_number(metadata, "best_loss", state.best.loss) &&
                        read_number(metadata, "worse_evaluations", state.best.worse);
  const std::string scale = models::value_of(metadata, kLossScale);
  if (!scale.empty()) state.loss_scale = parse_text(scale, static_cast<LossScale*>(nullptr));
  return complete && (scale.empty() || state.loss_scale) ? std::optional(state) : std::nullopt;
}

models::Metadata with_digest(models::Metadata metadata, const std::string& digest) {
  FTPLAN_CHECK(digest.size() == 32);
  metadata.emplace_back("digest", digest);
  std::sort(metadata.begin(), metadata.end());
  return metadata;
}

std::optional<LossScale> first_loss_scale(const Job& job) {
  if (!scales_loss(job.request.method.precision)) return std::nullopt;
  LossScale scale;
  if (job.request.training.loss_scale)
    scale.scale = static_cast<float>(*job.request.training.loss_scale);
  return scale;
}

models::AdapterConfig adapter_config_of(const Job& job) {
  const MethodOptions& method = job.request.method;
  models::AdapterConfig config{.base_model = job.request.model,
                               .rank = method.rank,
                               .alpha = method.alpha,
                               .dropout = method.dropout,
                               .rslora = method.rslora,
                               .modules_to_save = method.modules_to_save,
                               .ensure_weight_tying = method.ensure_weight_tying};
  const std::vector<std::string>& linears = adapted_names(job.model.family);
  for (std::size_t linear = 0; linear < linears.size(); ++linear) {
    if (job.adapters[linear].rank > 0) config.targets.push_back(linears[linear]);
  }
  config.layers = method.layers_to_transform;
  // Beside the layers only whole names are found then.
  if (!config.layers.empty() && job.embedding_adapter().rank > 0) {
    std::replace(config.targets.begin(), config.targets.end(),
                 linears[static_cast<std::size_t>(embedding_index(job.model.family))],
                 whole_module_names(job.model).front());
  }
  for (const LinearValue& entry : method.rank_pattern)
    config.rank_pattern.emplace_back(entry.linear, static_cast<std::int64_t>(entry.value));
  for (const LinearValue& entry : method.alpha_pattern)
    config.alpha_pattern.emplace_back(entry.linear, entry.value);
  return config;
}

models::AdapterTypes adapter_types(const Job& job) { return {.weights = result_dtype(job)}; }

Category category_in_result(std::string_view tensor) {
  return models::is_adapter_matrix(tensor) ? Category::kAdapters : Category::kWeights;
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
  const std::int64_t period = period_of(job.request.training.save_every, steps_per_epoch);
  // The one at the end replaces one that would fall on the same step.
  return 1 + (period > 0 && steps > 0 ? (steps - 1) / period : 0);
}

PlaceBytes disk_bytes(const Job& job, const std::vector<StateTensor>& states, std::int64_t saves,
                      const FileShare& share) {
  if (!share.writes_states) return {};
  const TrainingOptions& training = job.request.training;
  const PlaceBytes checkpoint = checkpoint_bytes(job, states);
  const PlaceBytes result = share.writes_result ? result_bytes(job) : PlaceBytes{};
  const std::int64_t kept = std::min(saves, training.save_total_limit);
  PlaceBytes disk;
  for (std::int64_t i = 0; i < kept; ++i) disk = disk + checkpoint;
  if (training.load_best_model_at_end) disk = disk + checkpoint_bytes(job, best_tensors(states));
  return disk + (saves > kept && checkpoint.peak > result.peak ? checkpoint : result);
}

}  // namespace ftplan::program

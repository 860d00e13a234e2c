#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/data_options.h"
#include "core/devices.h"
#include "core/fields.h"
#include "core/method.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/strategy.h"
#include "core/training.h"

namespace ftplan {

/// Which layouts the planner may choose from; what is left out is its choice.
struct LayoutOptions {
  std::optional<std::int64_t> zero;
  std::optional<Checkpointing> checkpointing;
  std::optional<std::int64_t> loss_chunk;
  std::optional<Pipeline> pipeline;
  std::optional<std::int64_t> prefetch;
  std::optional<std::int64_t> persist_below;

  friend bool operator==(const LayoutOptions&, const LayoutOptions&) = default;
};

template <>
inline constexpr auto fields<LayoutOptions> = std::tuple{
    Field{"zero", &LayoutOptions::zero, "stage", Range{0, 3}, "What is sharded over the ranks."},
    Field{"checkpointing", &LayoutOptions::checkpointing,
          "Which activations are recomputed in the backward."},
    Field{"loss_chunk", &LayoutOptions::loss_chunk, "tokens", Range{1, 1 << 20},
          "Tokens whose logits exist at one time."},
    Field{"pipeline", &LayoutOptions::pipeline,
          "Layers are spread over the devices, whose stages take turns so."},
    Field{"prefetch", &LayoutOptions::prefetch, "units", Range{0, 64},
          "Units whose weights are gathered ahead of the one in use, under ZeRO-3."},
    Field{"persist_below", &LayoutOptions::persist_below, "elements", Range{0, 1e12},
          "Units of fewer elements stay whole on every rank, under ZeRO-3."}};

/// `job.json` and the flags of `plan`: what is wanted, as text said it.
struct JobRequest {
  std::int64_t format_version = 1;
  std::string model;
  std::string adapter;
  std::string runtime = "ftplan";
  DeviceOptions devices;
  MethodOptions method;
  DataOptions data;
  TrainingOptions training;
  LayoutOptions layout;

  friend bool operator==(const JobRequest&, const JobRequest&) = default;
};

template <>
inline constexpr auto fields<JobRequest> =
    std::tuple{Field{"format_version", &JobRequest::format_version, "", Range{1, 1.5},
                     "Version of this file's form."},
               Field{"model", &JobRequest::model, "Preset, model folder or config.json."},
               Field{"adapter", &JobRequest::adapter, "PEFT adapter folder to continue from."},
               Field{"runtime", &JobRequest::runtime, "Whose trainer is estimated: ftplan or hf."},
               Field{"devices", &JobRequest::devices, "What the run may use."},
               Field{"method", &JobRequest::method, "What is trained, and in which numbers."},
               Field{"data", &JobRequest::data, "What the model learns from."},
               Field{"training", &JobRequest::training, "How long and how fast it learns."},
               Field{"layout", &JobRequest::layout, "Which layouts may be chosen."}};

/// The linears of a decoder layer that adapters can name, in forward order.
const std::vector<std::string>& linear_names(Family family);

/// The method whose frozen linears are those of such files.
/// @pre `stored` is not plain
constexpr Method method_for(StoredLinears stored) {
  return stored == StoredLinears::kInt8 ? Method::kInt8Lora : Method::kQlora;
}

/// All that adapters can name: `linear_names`, then the embedding and the head.
const std::vector<std::string>& adapted_names(Family family);

/// Places in `adapted_names`.
int embedding_index(Family family);
int head_index(Family family);

/// The modules that can be trained in full beside adapters, as PEFT names them: the embedding, the
/// final norm and the head by their whole names, norms of a layer without the layer's.
std::vector<std::string> whole_module_names(const ModelConfig& model);

/// Of them, those that PEFT finds for `method.modules_to_save`: all whose names end with one of it.
/// A tied head is its embedding.
/// @param where the flag or key that an error names
/// @error bad input: a name that fits none, or a linear; an embedding and a head that are tied,
/// where PEFT would untie them
Result<std::vector<std::string>> resolve_modules(const MethodOptions& method,
                                                 const ModelConfig& model,
                                                 const std::string& where);

/// Whether a weight belongs to one of the modules. @param weight its name, in a layer without the
/// layer's
bool is_of(const std::vector<std::string>& modules, const std::string& weight);

/// LoRA matrices of one linear, of the embedding or of the head.
struct LoraShape {
  std::int64_t rank = 0;  ///< 0: the linear is not adapted
  double scale = 0;       ///< alpha / rank, or alpha / sqrt(rank)
};

/// A valid request for a known model: every choice that is the user's is made, every other is a
/// non-empty list.
struct Job {
  JobRequest request;
  ModelConfig model;
  DeviceLayout devices;
  std::vector<LoraShape> adapters;         ///< by place in `adapted_names`
  std::vector<std::string> whole_modules;  ///< of `whole_module_names`: trained beside adapters
  std::int64_t sequence = 0;               ///< tokens of the longest padded row
  std::int64_t global_batch = 0;
  double learning_rate = 0;
  std::vector<std::int64_t> micro_batch_choices;  ///< divide `global_batch / ranks`, descending
  std::vector<Checkpointing> checkpointing_choices;
  std::vector<std::int64_t> zero_choices;

  [[nodiscard]] bool lora() const { return request.method.method != Method::kFull; }
  [[nodiscard]] const LoraShape& embedding_adapter() const {
    return adapter(embedding_index(model.family));
  }
  [[nodiscard]] const LoraShape& head_adapter() const { return adapter(head_index(model.family)); }
  [[nodiscard]] const LoraShape& adapter(int linear) const {
    return adapters[static_cast<std::size_t>(linear)];
  }
  /// Whether the linears of a layer have adapters; in others a pair of zeros stands for one.
  [[nodiscard]] bool adapts_layer(std::int64_t layer) const {
    const auto& layers = request.method.layers_to_transform;
    return layers.empty() || std::find(layers.begin(), layers.end(), layer) != layers.end();
  }
  /// Whether a weight takes steps itself. @param weight its name, in a layer without the layer's
  [[nodiscard]] bool trains(const std::string& weight) const {
    return !lora() || is_of(whole_modules, weight);
  }
  /// The frozen linears of the layers are 4-bit or 8-bit.
  [[nodiscard]] bool quantized() const { return is_quantized(request.method.method); }
  /// AdamW's moments are 8-bit.
  [[nodiscard]] bool states_in_8_bits() const {
    return request.method.optimizer == Optimizer::kAdamw8bit || pages_states();
  }
  /// The optimizer's states live on the host and come to the device by pages.
  [[nodiscard]] bool pages_states() const {
    return request.method.optimizer == Optimizer::kPagedAdamw8bit;
  }
  [[nodiscard]] std::int64_t ranks() const { return devices.count(); }
  /// Stages of the pipeline; 1 without one.
  [[nodiscard]] std::int64_t stages() const { return request.layout.pipeline ? ranks() : 1; }
  /// Ranks that hold the same weights and differ in their rows.
  [[nodiscard]] std::int64_t data_parallel() const { return ranks() / stages(); }
};

/// Decides everything that is the user's to decide. `facts` are those of the data, when it was
/// read.
/// @error bad input that names the field and the way out; what is not built yet is refused here
Result<Job> validate(const JobRequest& request, const ModelConfig& model,
                     const std::optional<DataFacts>& facts);

}  // namespace ftplan

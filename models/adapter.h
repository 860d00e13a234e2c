#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/units.h"
#include "models/adapter_config.h"
#include "models/safetensors.h"
#include "models/safetensors_header.h"
#include "models/safetensors_writer.h"

/// LoRA adapters in PEFT's form: a folder with `adapter_config.json` and
/// `adapter_model.safetensors`. Weights of modules trained in full stand beside the matrices.
namespace ftplan::models {

inline constexpr const char* kAdapterWeightsFile = "adapter_model.safetensors";

/// A is [rank, in], B is [out, rank]; the linear's weight gets `scaling * B A`. Of an embedding of
/// V rows A is [rank, V] and B is [hidden, rank]; its table gets `scaling * (B A)^T`.
enum class LoraMatrix : std::uint8_t { kA, kB };

/// `base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight`, or
/// `base_model.model.model.embed_tokens.lora_embedding_A`
std::string adapter_tensor_name(const AdaptedLinear& linear, LoraMatrix matrix,
                                const ModelConfig& model);

/// `base_model.model.model.norm.weight`
std::string adapter_weight_name(const std::string& weight);

/// Whether a tensor of an adapter's file is a LoRA matrix, and not a weight trained in full.
bool is_adapter_matrix(std::string_view name);

/// Element types of an adapter's file.
struct AdapterTypes {
  DType matrices = DType::kF32;
  DType weights = DType::kF32;  ///< trained in full
};

/// The tensors of an adapter: A before B, layer by layer, then the weights trained in full. A tied
/// head has a copy of its own, as PEFT writes it.
/// @pre the targets name linears of the model, and `modules_to_save` modules
std::vector<TensorSpec> adapter_specs(const AdapterConfig& config, const ModelConfig& model,
                                      AdapterTypes types);

/// Exact bytes on disk of both files.
Bytes adapter_disk_bytes(const AdapterConfig& config, const ModelConfig& model, AdapterTypes types);

/// The two matrices of one linear.
struct AdapterModule {
  AdaptedLinear linear;
  const TensorView* a = nullptr;
  const TensorView* b = nullptr;
};

/// A weight that takes the place of the base's: trained in full, or the embedding or head as it was
/// when PEFT saved it beside its adapter.
struct AdapterWeight {
  std::string name;  ///< in the model
  const TensorView* values = nullptr;
};

/// Rows of embedding and head with an adapter: those that it trained in full, where new tokens made
/// them more than the model's, else the model's.
std::int64_t adapted_vocabulary(const std::string& folder, const ModelConfig& model);

class Adapter {
 public:
  /// Opens an adapter for `model`: all matrices are there, have the shapes that the model needs,
  /// and nothing else is.
  /// @error bad input; an adapter of another model is named as such
  static Result<Adapter> open(const std::string& folder, const ModelConfig& model);

  [[nodiscard]] const AdapterConfig& config() const { return config_; }
  /// Layer by layer.
  [[nodiscard]] const std::vector<AdapterModule>& modules() const { return modules_; }
  [[nodiscard]] const std::vector<AdapterWeight>& weights() const { return weights_; }
  /// The values of one of them; null for other weights.
  [[nodiscard]] const TensorView* find_weight(std::string_view name) const;

 private:
  Adapter(AdapterConfig config, SafetensorsFile file)
      : config_(std::move(config)), file_(std::move(file)) {}

  // Those of the tensors that the file has.
  Result<std::vector<TensorSpec>> read_bases(const std::vector<TensorSpec>& possible,
                                             const ModelConfig& model);

  AdapterConfig config_;
  SafetensorsFile file_;
  std::vector<AdapterModule> modules_;
  std::vector<AdapterWeight> weights_;
};

/// The numbers of a matrix.
/// @pre its element type is a float, as `Adapter::open` has checked
std::vector<float> values_of(const TensorView& tensor);

/// The matrix of `rows` rows, row by row of its transpose.
std::vector<float> transposed(std::span<const float> values, std::size_t rows);

/// Writes an adapter folder that PEFT loads. The configuration comes last, so a folder that has one
/// is complete.
class AdapterWriter {
 public:
  static Result<AdapterWriter> create(const std::string& folder, const AdapterConfig& config,
                                      const ModelConfig& model, AdapterTypes types);

  /// The next bytes of a matrix, in the element type given to `create`.
  Result<void> write(const AdaptedLinear& linear, LoraMatrix matrix,
                     std::span<const std::byte> bytes);
  /// The next bytes of a weight trained in full, in the element type given to `create`.
  /// @param name in the model; that of the embedding is a tied head's, too
  Result<void> write(const std::string& name, std::span<const std::byte> bytes);

  /// @pre every matrix and weight has been written
  Result<void> finish();

 private:
  AdapterWriter(std::string folder, AdapterConfig config, ModelConfig model,
                SafetensorsWriter writer);

  std::string folder_;
  AdapterConfig config_;
  ModelConfig model_;
  SafetensorsWriter writer_;
};

}  // namespace ftplan::models

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/job.h"
#include "core/result.h"
#include "executor/call.h"
#include "models/adapter.h"
#include "models/checkpoint.h"
#include "models/family.h"
#include "models/safetensors.h"
#include "program/step_program.h"

namespace ftplan::executor {

/// Brings the values of weights and adapters from files into the arena, one tensor at a time.
class Loader {
 public:
  /// Opens the model's weights, and the adapter where `adapter` is not empty, and checks both
  /// against the job.
  /// @error bad input: which file or tensor is not as the job says
  static Result<Loader> open(const Job& job, const std::string& model, const std::string& adapter);

  /// A weight of the checkpoint, or of the adapter where it was trained in full, converted to the
  /// type of `to`: all of it, or the elements from `begin` on that `to` has place for; rows of new
  /// tokens, which the file lacks, are the mean of those it has. Its pages of the file are given
  /// back.
  [[nodiscard]] Result<void> load(const program::WeightBinding& weight, std::int32_t layer,
                                  const View& to, std::int64_t begin = 0) const;

  /// The same as NF4 into the outputs of a kLoadNf4: the codes of the file where it has such, else
  /// quantized from its values.
  /// @error bad input: a value or a scale that is not finite
  [[nodiscard]] Result<void> load_nf4(const program::WeightBinding& weight, std::int32_t layer,
                                      const Call& call) const;
  /// The same as 8-bit codes into the outputs of a kLoadInt8.
  /// @error bad input: a value that is not finite in fp16, or a scale
  [[nodiscard]] Result<void> load_int8(const program::WeightBinding& weight, std::int32_t layer,
                                       const Call& call) const;

  /// Half of a LoRA pair: from the adapter's file, or its first values: A uniform in
  /// +-1/sqrt(inputs), B zero; of an embedding A zero, B standard normal. Both are zero in layers
  /// that the job does not adapt.
  /// @source PEFT 0.21.2 tuners/lora/layer.py, reset_lora_parameters
  [[nodiscard]] Result<void> init_adapter(const program::AdapterBinding& adapter,
                                          std::int32_t layer, const View& to) const;

 private:
  Loader(const Job& job, models::Checkpoint checkpoint, std::optional<models::Adapter> adapter)
      : blueprint_(models::make_blueprint(job.model)),
        checkpoint_(std::move(checkpoint)),
        adapter_(std::move(adapter)),
        embedding_(embedding_index(job.model.family)),
        layers_(job.request.method.layers_to_transform),
        seed_(static_cast<std::uint64_t>(job.request.training.seed)) {}

  [[nodiscard]] models::Weight weight_of(const program::WeightBinding& weight,
                                         std::int32_t layer) const;
  [[nodiscard]] const models::TensorView& tensor_of(const program::WeightBinding& weight,
                                                    std::int32_t layer) const;

  models::Blueprint blueprint_;
  models::Checkpoint checkpoint_;
  std::optional<models::Adapter> adapter_;
  int embedding_;                     // in `adapted_names`
  std::vector<std::int64_t> layers_;  // that are adapted, ascending; empty: all
  std::uint64_t seed_;
};

}  // namespace ftplan::executor

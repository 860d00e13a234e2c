#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/stage.h"
#include "core/strategy.h"
#include "models/family.h"
#include "program/emitter.h"
#include "program/lifetimes.h"
#include "program/runtime.h"
#include "program/step_program.h"
#include "program/walk.h"

/// What the passes share while they turn a job into a program.
namespace ftplan::program {

/// A run needs several programs over one arena; their persistent regions are equal.
enum class ProgramKind : std::uint8_t {
  kLoad,      ///< fills everything that lives across steps
  kTrain,     ///< one optimizer step
  kEvaluate,  ///< the loss of one batch
  kPrefill,   ///< a prompt into the cache, and the next token
  kDecode,    ///< one token into the cache, and the next
  kSave,      ///< hands every weight and adapter to the host, whole, one unit after the other
};

/// What to lower. Zeros mean the strategy's micro-batch and the job's sequence.
struct ProgramRequest {
  ProgramKind kind = ProgramKind::kTrain;
  std::int64_t rank = 0;
  std::int64_t rows = 0;
  std::int64_t sequence = 0;
  std::int64_t cache = 0;      ///< capacity of the key and value cache, for prefill and decode
  bool training_state = true;  ///< gradients, moments and masters belong to the persistent region
};

/// The two halves of one adapted linear, and their casts are made where they are used.
struct LoraPair {
  TensorId a = kNone;  ///< [rank, in]; of the embedding [vocabulary, rank], so that rows are taken
  TensorId b = kNone;  ///< [out, rank]
};

/// Tensors that every pass may name.
struct ModelTensors {
  TensorId embedding = kNone, final_norm = kNone, final_norm_bias = kNone, head = kNone;
  std::vector<TensorId> layer;       ///< by index in `Blueprint::layer`
  std::vector<PackedScales> scales;  ///< the same; set for linears whose `layer` is packed
  std::vector<LoraPair> adapters;    ///< by place in `adapted_names`
  /// [experts, out * in]: w1, w3 and w2 of all experts of a layer; kNone where there are none.
  std::array<TensorId, 3> experts{kNone, kNone, kNone};
  std::vector<TensorId>
      gradients;              ///< by weight tensor: where its gradient goes, kNone when frozen
  TensorId held = kNone;      ///< what the runtime keeps alive through the backward
  TensorId residual = kNone;  ///< a layer's input at shift 0 and output at shift 1
};

struct Lowering {
  const Job& job;
  const Strategy& strategy;
  const Machine& machine;
  ProgramRequest request;
  Stage stage;  ///< of the rank
  models::Blueprint blueprint;
  const RuntimeProfile& runtime;
  DType compute = DType::kF32;  ///< of weights and activations
  std::int64_t rows = 0;
  std::int64_t sequence = 0;
  Sampling sampling =
      Sampling::kEnds;  ///< what free_dead and lay_out walk; tests compare it with kAll
  StepProgram program;
  Walk steps;               ///< made by free_dead, for lay_out
  std::vector<Life> lives;  ///< of `steps`
  ModelTensors tensors;

  [[nodiscard]] std::int64_t tokens() const { return rows * sequence; }
  /// Of this rank: all, or those of its stage.
  [[nodiscard]] std::int64_t layers() const { return stage.layers; }
  [[nodiscard]] bool trains() const { return request.kind == ProgramKind::kTrain; }
  /// Weights and residual stream in f32, products in bf16.
  [[nodiscard]] bool autocasts() const {
    return runtime.autocast_full && !job.lora() && product_type() != DType::kF32;
  }
  /// Of factors of products.
  [[nodiscard]] DType product_type() const { return dtype_of(job.request.method.precision); }
  /// Whether the embedding takes steps on this rank, or adapters on it do.
  [[nodiscard]] bool embedding_learns() const { return stage.first() && some_embedding_learns(); }
  [[nodiscard]] bool layers_learn() const {
    return std::any_of(program.units.begin(), program.units.end(), [](const TrainedUnit& unit) {
      return unit.per_layer && unit.gradients != kNone;
    });
  }
  /// Whether something before the first layer of this rank needs a gradient.
  [[nodiscard]] bool input_learns() const {
    return some_embedding_learns() || (!stage.first() && layers_learn());
  }
  /// Moments and masters are the rank's part of each unit: ZeRO-1 and above.
  [[nodiscard]] bool shards() const { return strategy.zero >= 1 && job.data_parallel() > 1; }
  /// Gradients are sent to their owners in every micro-step: ZeRO-2 and above, or the only one.
  [[nodiscard]] bool reduces_at_once() const {
    return shards() && (strategy.zero >= 2 || strategy.accumulation == 1);
  }
  /// Units of weights, frozen ones too, are kept in parts and gathered where they are used: ZeRO-3.
  [[nodiscard]] bool shards_weights() const { return shards() && strategy.zero >= 3; }
  /// Units of layers whose gathered weights are held at a time.
  [[nodiscard]] std::int32_t gathered_layers() const {
    return static_cast<std::int32_t>(std::min(strategy.prefetch + 1, layers()));
  }
  /// Units are updated as soon as their gradient is complete, which then is free.
  [[nodiscard]] bool updates_in_backward() const { return job.request.training.update_in_backward; }
  [[nodiscard]] bool generates() const {
    return request.kind == ProgramKind::kPrefill || request.kind == ProgramKind::kDecode;
  }
  [[nodiscard]] std::int64_t loss_chunk() const {
    return strategy.loss_chunk < tokens() ? strategy.loss_chunk : tokens();
  }

 private:
  [[nodiscard]] bool some_embedding_learns() const {
    return job.trains(blueprint.embedding.name) || job.embedding_adapter().rank > 0;
  }
};

/// Elements to which every tensor of a unit is aligned, so that states do not depend on how a unit
/// is cut.
inline constexpr std::int64_t kUnitAlignment = 256;

}  // namespace ftplan::program

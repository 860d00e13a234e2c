#include "program/model_state.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/check.h"
#include "core/dtype.h"
#include "core/job.h"
#include "core/method.h"
#include "core/model_config.h"
#include "core/shape.h"
#include "core/training.h"
#include "core/units.h"
#include "models/dynamic_map.h"
#include "models/family.h"
#include "models/nf4.h"
#include "program/emitter.h"
#include "program/lowering.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

// With 8-bit states, smaller tensors keep theirs in f32.
// @source bitsandbytes 0.50.0 optim/optimizer.py, min_8bit_size
constexpr std::int64_t kLeastElementsIn8Bits = 4096;

// One tensor of a unit.
struct Member {
  Shape shape;
  bool decays = true;
  TensorId* tensor = nullptr;  // where its id goes
  bool f32_states = false;     // with an 8-bit optimizer too
};

struct UnitSpec {
  const char* name;
  const char* apart;  // name of what keeps f32 states beside 8-bit ones
  bool per_layer;
  DType dtype;
  Category category;
  bool trained;
  bool holds_head;
  std::vector<Member> members;
};

// Whether ranks keep parts of a unit of weights and gather it where it is used.
bool is_gathered(const Lowering& lowering, std::int64_t elements) {
  return lowering.shards_weights() && elements >= lowering.strategy.persist_below;
}

struct FlatRun {
  const char* name;
  bool per_layer;
  Category category;
  std::int64_t elements;  // padded
  DType dtype;
  std::vector<Gap> gaps;
};

// The rank's part, which lives across steps, and the copies that gathers fill.
GatheredUnit add_gathered(Lowering& lowering, const FlatRun& run) {
  Emitter emitter(lowering.program);
  const std::int64_t part = run.elements / lowering.job.data_parallel();
  FTPLAN_CHECK(part * lowering.job.data_parallel() == run.elements);
  const auto layers = static_cast<std::int32_t>(run.per_layer ? lowering.layers() : 1);
  const StorageId kept = emitter.storage({.size = part * size_of(run.dtype),
                                          .category = run.category,
                                          .region = Region::kPersistent,
                                          .copies = {.count = layers},
                                          .name = run.name});
  const std::int32_t held = run.per_layer ? lowering.gathered_layers() : 1;
  const StorageId whole = emitter.storage({.size = run.elements * size_of(run.dtype),
                                           .category = Category::kGathered,
                                           .region = Region::kWork,
                                           .copies = {.count = held},
                                           .anew_in_each_layer = layers > 1 && held == 1,
                                           .name = "gathered"});
  GatheredUnit unit{.name = run.name,
                    .per_layer = run.per_layer,
                    .layers = layers,
                    .shard = emitter.tensor(kept, {part}, run.dtype),
                    .whole = emitter.tensor(whole, {run.elements}, run.dtype),
                    .gaps = run.gaps};
  lowering.program.gathered.push_back(unit);
  return unit;
}

class StateBuilder {
 public:
  explicit StateBuilder(Lowering& lowering) : lowering_(lowering), emitter_(lowering.program) {}

  void add(const UnitSpec& spec) {
    if (!spec.trained || !lowering_.job.states_in_8_bits()) return add_unit(spec, false);
    UnitSpec large = spec;
    UnitSpec small = spec;
    small.name = spec.apart;
    const auto keeps_f32 = [](const Member& member) {
      return member.f32_states || member.shape.elements() < kLeastElementsIn8Bits;
    };
    std::erase_if(large.members, keeps_f32);
    std::erase_if(small.members, [&](const Member& member) { return !keeps_f32(member); });
    if (!large.members.empty()) add_unit(std::move(large), true);
    if (!small.members.empty()) add_unit(std::move(small), false);
  }

 private:
  void add_unit(UnitSpec spec, bool in_8_bits) {
    // What decays stands first, so that two instructions update a unit.
    std::stable_partition(spec.members.begin(), spec.members.end(),
                          [](const Member& member) { return member.decays; });
    std::int64_t elements = 0;
    std::int64_t decayed = 0;
    std::vector<std::int64_t> begins;
    std::vector<Gap> gaps;
    const auto align = [&](std::int64_t multiple) {
      const std::int64_t aligned = round_up(elements, multiple);
      if (aligned > elements && !gaps.empty() && gaps.back().end == elements) {
        gaps.back().end = aligned;
      } else if (aligned > elements) {
        gaps.push_back({elements, aligned});
      }
      elements = aligned;
    };
    std::int64_t values = 0;
    for (const Member& member : spec.members) values += member.shape.elements();
    const bool gathered = is_gathered(lowering_, values);
    // What is never cut needs no more than the alignment of storages.
    const bool cut = spec.trained || gathered;
    const std::int64_t alignment =
        cut ? kUnitAlignment : kAlignment.value / size_of(spec.dtype).value;
    for (const Member& member : spec.members) {
      begins.push_back(elements);
      elements += member.shape.elements();
      align(alignment);
      if (member.decays) decayed = elements;
    }
    if (cut) align(lowering_.job.data_parallel() * kUnitAlignment);
    TensorId weights = kNone;
    TensorId whole = kNone;
    if (gathered) {
      const GatheredUnit unit = add_gathered(
          lowering_, {spec.name, spec.per_layer, spec.category, elements, spec.dtype, gaps});
      weights = unit.shard;
      whole = unit.whole;
    } else {
      whole = weights = emitter_.tensor(
          persistent(spec, spec.name, spec.category, elements, spec.dtype), {elements}, spec.dtype);
    }
    const StorageId storage = lowering_.program.tensor(whole).storage;
    for (std::size_t i = 0; i < spec.members.size(); ++i) {
      *spec.members[i].tensor = emitter_.tensor(storage, spec.members[i].shape, spec.dtype,
                                                begins[i] * size_of(spec.dtype));
    }
    if (!spec.trained) return;
    TrainedUnit unit{.name = spec.name,
                     .per_layer = spec.per_layer,
                     .layers = spec.per_layer ? static_cast<std::int32_t>(lowering_.layers()) : 1,
                     .weights = weights,
                     .whole = whole,
                     .decayed = decayed,
                     .elements = elements,
                     .gaps = gaps};
    if (lowering_.request.training_state) add_states(spec, unit, in_8_bits);
    if (lowering_.trains()) add_gradients(spec, unit, begins);
    lowering_.program.units.push_back(unit);
  }

  StorageId persistent(const UnitSpec& spec, const char* name, Category category,
                       std::int64_t elements, DType dtype, Place place = Place::kDevice) {
    const auto layers = static_cast<std::int32_t>(lowering_.layers());
    return emitter_.storage({.size = elements * size_of(dtype),
                             .category = category,
                             .place = place,
                             .region = Region::kPersistent,
                             .copies = {.count = spec.per_layer ? layers : 1},
                             .name = name});
  }

  void add_states(const UnitSpec& spec, TrainedUnit& unit, bool in_8_bits) {
    const std::int64_t shard =
        unit.elements / (lowering_.shards() ? lowering_.job.data_parallel() : 1);
    Place place = Place::kDevice;
    const auto state = [&](const char* name, std::int64_t elements, DType dtype) {
      return emitter_.tensor(persistent(spec, name, Category::kOptimizer, elements, dtype, place),
                             {elements}, dtype);
    };
    if (spec.dtype != DType::kF32) unit.master = state("master", shard, DType::kF32);
    if (lowering_.job.pages_states()) place = Place::kHost;
    if (lowering_.job.request.method.optimizer == Optimizer::kSgd) {
      if (lowering_.job.request.training.momentum > 0)
        unit.moment1 = state("momentum", shard, DType::kF32);
      return;
    }
    const DType dtype = in_8_bits ? DType::kU8 : DType::kF32;
    unit.moment1 = state("first moment", shard, dtype);
    unit.moment2 = state("second moment", shard, dtype);
    if (!in_8_bits) return;
    unit.scale1 = state("first scales", models::dynamic_blocks(shard), DType::kF32);
    unit.scale2 = state("second scales", models::dynamic_blocks(shard), DType::kF32);
  }

  void add_gradients(const UnitSpec& spec, TrainedUnit& unit,
                     const std::vector<std::int64_t>& begins) {
    const bool in_chunks = spec.holds_head && lowering_.loss_chunk() < lowering_.tokens();
    const bool accumulates = lowering_.strategy.accumulation > 1;
    // Where each micro-step's gradient travels, it is the shard that sums them.
    const bool travels = lowering_.reduces_at_once();
    const bool summed = in_chunks || (accumulates && !travels);
    const DType dtype = summed ? DType::kF32 : spec.dtype;
    const DType shard_dtype = accumulates ? DType::kF32 : dtype;
    const std::int32_t layers = spec.per_layer ? static_cast<std::int32_t>(lowering_.layers()) : 1;
    // A unit that is reduced as soon as it is made needs two copies: one travels while the next is
    // made.
    const bool updated_at_once = lowering_.updates_in_backward();
    const std::int32_t copies = updated_at_once ? 1 : (travels ? std::min(layers, 2) : layers);
    const StorageId storage =
        emitter_.storage({.size = unit.elements * size_of(dtype),
                          .category = Category::kGradients,
                          .region = travels || updated_at_once ? Region::kWork : Region::kGradients,
                          .copies = {.count = copies},
                          .anew_in_each_layer = updated_at_once && spec.per_layer,
                          .name = "gradients"});
    unit.gradients = emitter_.tensor(storage, {unit.elements}, dtype);
    unit.update_gradients = shard_of_gradients(unit, shard_dtype, travels, layers);
    for (std::size_t i = 0; i < spec.members.size(); ++i) {
      const TensorId gradient =
          emitter_.tensor(storage, spec.members[i].shape, dtype, begins[i] * size_of(dtype));
      auto& gradients = lowering_.tensors.gradients;
      gradients.resize(std::max(gradients.size(), lowering_.program.tensors.size()), kNone);
      gradients[static_cast<std::size_t>(*spec.members[i].tensor)] = gradient;
    }
  }

  // What the update reads: all of it, the rank's part of it, or a shard that a collective fills.
  TensorId shard_of_gradients(const TrainedUnit& unit, DType dtype, bool travels,
                              std::int32_t layers) {
    if (!lowering_.shards()) return unit.gradients;
    const std::int64_t shard = unit.elements / lowering_.job.data_parallel();
    if (!travels) {
      const Bytes begin = lowering_.request.rank * shard * size_of(dtype);
      return emitter_.tensor(lowering_.program.tensor(unit.gradients).storage, {shard}, dtype,
                             begin);
    }
    const StorageId storage = emitter_.storage({.size = shard * size_of(dtype),
                                                .category = Category::kGradients,
                                                .region = Region::kGradients,
                                                .copies = {.count = layers},
                                                .name = "gradient shard"});
    return emitter_.tensor(storage, {shard}, dtype);
  }

  Lowering& lowering_;
  Emitter emitter_;
};

bool decays(const Lowering& lowering, models::WeightKind kind) {
  const bool matrix = kind != models::WeightKind::kNorm && kind != models::WeightKind::kBias;
  return matrix || lowering.job.request.training.decay == Decay::kAll;
}

bool is_quantized(const Lowering& lowering, const models::Weight& weight) {
  return lowering.job.quantized() && weight.kind == models::WeightKind::kMatrix;
}

// Tensors side by side in one persistent storage for each layer.
class SideBySide {
 public:
  void place(TensorId& tensor, std::int64_t elements, DType dtype, Bytes alignment = kAlignment) {
    const Bytes offset = round_up(size_, alignment);
    parts_.push_back({&tensor, elements, dtype, offset});
    size_ = offset + elements * size_of(dtype);
  }

  void add(Lowering& lowering, const char* name) const {
    Emitter emitter(lowering.program);
    const StorageId storage =
        is_gathered(lowering, size_.value)
            ? add_in_parts(lowering, name)
            : emitter.storage({.size = size_,
                               .category = Category::kWeights,
                               .region = Region::kPersistent,
                               .copies = {.count = static_cast<std::int32_t>(lowering.layers())},
                               .name = name});
    for (const Part& part : parts_)
      *part.tensor = emitter.tensor(storage, {part.elements}, part.dtype, part.offset);
  }

 private:
  struct Part {
    TensorId* tensor;
    std::int64_t elements;
    DType dtype;
    Bytes offset;
  };

  // As a run of bytes.
  StorageId add_in_parts(Lowering& lowering, const char* name) const {
    std::vector<Gap> gaps;
    Bytes end;
    for (const Part& part : parts_) {
      if (part.offset > end) gaps.push_back({end.value, part.offset.value});
      end = part.offset + part.elements * size_of(part.dtype);
    }
    const std::int64_t padded = round_up(end.value, lowering.job.data_parallel() * kUnitAlignment);
    if (padded > end.value) gaps.push_back({end.value, padded});
    const GatheredUnit unit = add_gathered(
        lowering, {name, /*per_layer=*/true, Category::kWeights, padded, DType::kU8, gaps});
    return lowering.program.tensor(unit.whole).storage;
  }

  std::vector<Part> parts_;
  Bytes size_;
};

// 8-bit codes of a layer's linears and a scale for each of their outputs.
void add_int8_layer(Lowering& lowering) {
  const auto& weights = lowering.blueprint.layer;
  SideBySide layer;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!is_quantized(lowering, weights[i])) continue;
    layer.place(lowering.tensors.layer[i], weights[i].shape.elements(), DType::kI8);
    layer.place(lowering.tensors.scales[i].absmax, weights[i].shape[0], DType::kF32);
  }
  layer.add(lowering, "quantized layer");
}

// Packed values and scales of a layer's linears.
void add_nf4_layer(Lowering& lowering) {
  const bool nested = lowering.job.request.method.double_quantization;
  const auto& weights = lowering.blueprint.layer;
  ModelTensors& tensors = lowering.tensors;
  SideBySide layer;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!is_quantized(lowering, weights[i])) continue;
    const auto counts = models::nf4_counts(weights[i].shape.elements());
    PackedScales& scales = tensors.scales[i];
    layer.place(tensors.layer[i], counts.packed, DType::kU8);
    layer.place(scales.absmax, counts.blocks, nested ? DType::kU8 : DType::kF32);
    if (nested) layer.place(scales.nested, counts.nested, DType::kF32);
  }
  for (std::size_t i = 0; i < weights.size() && nested; ++i) {
    if (is_quantized(lowering, weights[i]))
      layer.place(tensors.scales[i].offset, 1, DType::kF32, size_of(DType::kF32));
  }
  layer.add(lowering, "quantized layer");
}

// Trained norms stay f32 beside 16-bit matrices: they take the bytes that a master would, and no
// step of theirs is lost to rounding.
DType norm_dtype(const Lowering& lowering, bool trained) {
  return trained ? DType::kF32 : lowering.compute;
}

void add_layer(Lowering& lowering, StateBuilder& builder) {
  const bool full = !lowering.job.lora();
  const DType norms = norm_dtype(lowering, true);
  UnitSpec matrices{
      "layer", "small of layer", true, lowering.compute, Category::kWeights, full, false, {}};
  UnitSpec apart{
      "layer norms", "small layer norms", true, norms, Category::kWeights, true, false, {}};
  for (std::size_t i = 0; i < lowering.blueprint.layer.size(); ++i) {
    const models::Weight& weight = lowering.blueprint.layer[i];
    if (is_quantized(lowering, weight)) continue;
    const bool trained_norm =
        weight.kind == models::WeightKind::kNorm && lowering.job.trains(weight.name);
    const bool stands_apart = trained_norm && (!full || norms != lowering.compute);
    (stands_apart ? apart : matrices)
        .members.push_back(
            {weight.shape, decays(lowering, weight.kind), &lowering.tensors.layer[i]});
  }
  builder.add(matrices);
  if (!apart.members.empty()) builder.add(apart);
}

// The matrices of all experts as one tensor, a row for each.
TensorId stack(Emitter& emitter, const TensorId* members, std::int64_t count) {
  const Tensor first = emitter.program().tensor(members[0]);
  const std::int64_t elements = first.shape.elements();
  for (std::int64_t i = 0; i < count; ++i) {
    const Tensor& member = emitter.program().tensor(members[i]);
    FTPLAN_CHECK(member.storage == first.storage &&
                 member.offset == first.offset + i * elements * size_of(first.dtype));
  }
  return emitter.tensor(first.storage, {count, elements}, first.dtype, first.offset);
}

void stack_experts(Lowering& lowering) {
  const std::int64_t experts = lowering.job.model.experts;
  const auto& ops = lowering.blueprint.layer_ops;
  const auto op = std::find_if(ops.begin(), ops.end(), [](const models::LayerOp& one) {
    return one.kind == models::LayerOpKind::kExperts;
  });
  if (op == ops.end()) return;
  Emitter emitter(lowering.program);
  ModelTensors& tensors = lowering.tensors;
  const TensorId* member = tensors.layer.data() + op->weight + 1;
  for (TensorId& stacked : tensors.experts) {
    stacked = stack(emitter, member, experts);
    std::vector<TensorId> gradients;
    for (std::int64_t e = 0; e < experts; ++e) {
      const auto weight = static_cast<std::size_t>(*member++);
      if (weight < tensors.gradients.size() && tensors.gradients[weight] != kNone)
        gradients.push_back(tensors.gradients[weight]);
    }
    if (gradients.empty()) continue;
    const TensorId gradient = stack(emitter, gradients.data(), experts);
    tensors.gradients.resize(lowering.program.tensors.size(), kNone);
    tensors.gradients[static_cast<std::size_t>(stacked)] = gradient;
  }
}

UnitSpec adapter_unit(Lowering& lowering) {
  UnitSpec spec{"adapters", "small adapters", true, DType::kF32, Category::kAdapters, true, false,
                {}};
  lowering.tensors.adapters.resize(lowering.job.adapters.size());
  for (const models::Weight& weight : lowering.blueprint.layer) {
    if (weight.kind != models::WeightKind::kMatrix) continue;
    const std::int64_t rank = lowering.job.adapter(weight.linear).rank;
    if (rank == 0) continue;
    LoraPair& pair = lowering.tensors.adapters[static_cast<std::size_t>(weight.linear)];
    spec.members.push_back({{rank, weight.shape[1]}, true, &pair.a});
    spec.members.push_back({{weight.shape[0], rank}, true, &pair.b});
  }
  return spec;
}

// Of the embedding and the head. As the table, what is taken row by row keeps f32 states.
UnitSpec edge_adapter_unit(Lowering& lowering) {
  UnitSpec spec{"edge adapters",
                "small edge adapters",
                false,
                DType::kF32,
                Category::kAdapters,
                true,
                true,
                {}};
  const models::Blueprint& b = lowering.blueprint;
  const auto pair_of = [&](int index) -> LoraPair& {
    return lowering.tensors.adapters[static_cast<std::size_t>(index)];
  };
  const Family family = lowering.job.model.family;
  const std::int64_t first = lowering.stage.first() ? lowering.job.embedding_adapter().rank : 0;
  const std::int64_t last = lowering.stage.last() ? lowering.job.head_adapter().rank : 0;
  if (first > 0) {
    LoraPair& pair = pair_of(embedding_index(family));
    spec.members.push_back({{b.embedding.shape[0], first}, true, &pair.a, true});
    spec.members.push_back({{b.embedding.shape[1], first}, true, &pair.b});
  }
  if (last > 0) {
    LoraPair& pair = pair_of(head_index(family));
    spec.members.push_back({{last, b.head.shape[1]}, true, &pair.a});
    spec.members.push_back({{b.head.shape[0], last}, true, &pair.b});
  }
  return spec;
}

void add_edges(Lowering& lowering, StateBuilder& builder) {
  ModelTensors& t = lowering.tensors;
  const models::Blueprint& b = lowering.blueprint;
  const bool norm_trained = lowering.job.trains(b.final_norm.name);
  const bool tied = lowering.job.model.tied_embeddings;
  // As HF Trainer has it, the embedding keeps f32 states.
  // @source transformers 5.23 trainer.py, create_optimizer: register_module_override
  if (lowering.stage.first() || (lowering.stage.last() && tied)) {
    builder.add({"embedding",
                 "embedding",
                 false,
                 lowering.compute,
                 Category::kWeights,
                 lowering.job.trains(b.embedding.name),
                 tied,
                 {{b.embedding.shape, true, &t.embedding, true}}});
  }
  if (!lowering.stage.last()) return;
  UnitSpec head{"head",
                "small head",
                false,
                lowering.compute,
                Category::kWeights,
                tied ? norm_trained : lowering.job.trains(b.head.name),
                !tied,
                {}};
  UnitSpec apart{"final norm",       "small final norm", false, norm_dtype(lowering, norm_trained),
                 Category::kWeights, norm_trained,       false, {}};
  if (!tied) head.members.push_back({b.head.shape, true, &t.head});
  const bool alike = apart.dtype == head.dtype && apart.trained == head.trained;
  UnitSpec& norm = alike ? head : apart;
  const bool norm_decays = decays(lowering, b.final_norm.kind);
  norm.members.push_back({b.final_norm.shape, norm_decays, &t.final_norm});
  if (b.final_norm_bias)
    norm.members.push_back({b.final_norm_bias->shape, norm_decays, &t.final_norm_bias});
  for (const UnitSpec& spec : {head, apart}) {
    if (!spec.members.empty()) builder.add(spec);
  }
  if (tied) t.head = t.embedding;
}

void bind_weights(Lowering& lowering) {
  const ModelTensors& t = lowering.tensors;
  const models::Blueprint& b = lowering.blueprint;
  auto& weights = lowering.program.weights;
  const auto bind_edge = [&](TensorId tensor, const models::Weight& weight) {
    if (tensor != kNone) weights.push_back({tensor, kNone, weight.name, false});
  };
  bind_edge(t.embedding, b.embedding);
  for (std::size_t i = 0; i < b.layer.size(); ++i) {
    weights.push_back(
        {t.layer[i], static_cast<std::int32_t>(i), b.layer[i].name, true, t.scales[i]});
  }
  bind_edge(t.final_norm, b.final_norm);
  if (b.final_norm_bias) bind_edge(t.final_norm_bias, *b.final_norm_bias);
  if (!lowering.job.model.tied_embeddings) bind_edge(t.head, b.head);
  for (int linear = 0; linear < static_cast<int>(t.adapters.size()); ++linear) {
    const LoraPair& pair = t.adapters[static_cast<std::size_t>(linear)];
    if (pair.a == kNone) continue;
    const int embedding = embedding_index(lowering.job.model.family);
    const bool per_layer = linear < embedding;
    lowering.program.adapters.push_back({pair.a, linear, false, per_layer, linear == embedding});
    lowering.program.adapters.push_back({pair.b, linear, true, per_layer});
  }
}

// Sums that the executor reads after a step, so they outlive it.
void add_sums(Lowering& lowering) {
  Emitter emitter(lowering.program);
  const auto sum = [&](const char* name) {
    const StorageId storage = emitter.storage({.size = size_of(DType::kF64),
                                               .category = Category::kActivations,
                                               .region = Region::kPersistent,
                                               .name = name});
    return emitter.tensor(storage, {1}, DType::kF64);
  };
  lowering.program.interface.loss = sum("loss");
  lowering.program.interface.gradient_norm = sum("gradient norm");
}

void add_rope_table(Lowering& lowering) {
  if (lowering.job.model.alibi) return;
  Emitter emitter(lowering.program);
  const std::int64_t positions = lowering.generates() || lowering.request.cache > 0
                                     ? lowering.request.cache
                                     : lowering.job.sequence;
  const Shape shape{positions, lowering.job.model.rotated_size()};
  const StorageId storage = emitter.storage({.size = shape.elements() * size_of(DType::kF32),
                                             .category = Category::kInputs,
                                             .region = Region::kPersistent,
                                             .name = "rope table"});
  lowering.program.interface.rope_table = emitter.tensor(storage, shape, DType::kF32);
}

}  // namespace

void declare_state(Lowering& lowering) {
  StateBuilder builder(lowering);
  lowering.program.layers = static_cast<std::int32_t>(lowering.layers());
  lowering.program.first_layer = static_cast<std::int32_t>(lowering.stage.first_layer);
  lowering.program.ranks = lowering.job.data_parallel();
  if (lowering.shards_weights())
    lowering.program.ring = std::lcm(lowering.program.ring, lowering.gathered_layers());
  add_edges(lowering, builder);
  lowering.tensors.layer.assign(lowering.blueprint.layer.size(), kNone);
  lowering.tensors.scales.assign(lowering.blueprint.layer.size(), {});
  add_layer(lowering, builder);
  const Method method = lowering.job.request.method.method;
  if (method == Method::kQlora) add_nf4_layer(lowering);
  if (method == Method::kInt8Lora) add_int8_layer(lowering);
  stack_experts(lowering);
  const UnitSpec adapters = adapter_unit(lowering);
  if (!adapters.members.empty()) builder.add(adapters);
  const UnitSpec edge_adapters = edge_adapter_unit(lowering);
  if (!edge_adapters.members.empty()) builder.add(edge_adapters);
  lowering.tensors.gradients.resize(lowering.program.tensors.size(), kNone);
  add_rope_table(lowering);
  add_sums(lowering);
  bind_weights(lowering);
}

}  // namespace ftplan::program

#include "program/load_program.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "core/model_config.h"
#include "program/attributes.h"
#include "program/emitter.h"
#include "program/lowering.h"
#include "program/op.h"
#include "program/ops/rotate.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

// The gathered unit that a tensor is a part of, or null.
const GatheredUnit* gathered_unit(const StepProgram& program, TensorId tensor) {
  const StorageId storage = program.tensor(tensor).storage;
  const auto unit = std::find_if(
      program.gathered.begin(), program.gathered.end(),
      [&](const GatheredUnit& one) { return program.tensor(one.whole).storage == storage; });
  return unit == program.gathered.end() ? nullptr : &*unit;
}

void open_layers(const Lowering& low, Emitter& emit, bool per_layer) {
  emit.open({.repeat = per_layer ? static_cast<std::int32_t>(low.layers()) : 1,
             .axis = per_layer ? Axis::kLayer : Axis::kOnce});
}

void load_whole(const Lowering& low, Emitter& emit, std::size_t index) {
  const WeightBinding& binding = low.program.weights[index];
  Instruction load{.op = Op::kLoad, .out = {{binding.tensor}}};
  FileAttributes file{static_cast<std::int64_t>(index)};
  if (binding.scales) {
    file.quantized = low.job.model.stored_linears != StoredLinears::kPlain;
    const bool nf4 = low.program.tensor(binding.tensor).dtype == DType::kU8;
    load.op = nf4 ? Op::kLoadNf4 : Op::kLoadInt8;
    for (const TensorId id : {binding.scales.absmax, binding.scales.nested, binding.scales.offset})
      load.out.push_back({id});
  }
  load.attributes = emit.attributes(file);
  emit.emit(load);
}

// Those elements of a plain weight that are in the rank's part of `unit`.
void load_part(Lowering& low, Emitter& emit, std::size_t index, const GatheredUnit& unit) {
  const Tensor weight = low.program.tensor(low.program.weights[index].tensor);
  const Tensor shard = low.program.tensor(unit.shard);
  const std::int64_t first = weight.offset.value / size_of(weight.dtype).value;
  const std::int64_t origin = low.request.rank * shard.shape.elements();
  const std::int64_t begin = std::max(first, origin);
  const std::int64_t end =
      std::min(first + weight.shape.elements(), origin + shard.shape.elements());
  if (begin >= end) return;
  const TensorId part = emit.tensor(shard.storage, {end - begin}, shard.dtype,
                                    (begin - origin) * size_of(shard.dtype));
  emit.emit({.op = Op::kLoad,
             .attributes = emit.attributes(FileAttributes{
                 .binding = static_cast<std::int64_t>(index), .begin = begin - first}),
             .out = {{part}}});
}

void load_weights(Lowering& low, Emitter& emit) {
  for (std::size_t i = 0; i < low.program.weights.size(); ++i) {
    const WeightBinding& binding = low.program.weights[i];
    const GatheredUnit* unit = gathered_unit(low.program, binding.tensor);
    if (unit != nullptr && binding.scales) continue;
    open_layers(low, emit, binding.per_layer);
    if (unit == nullptr) {
      load_whole(low, emit, i);
    } else {
      load_part(low, emit, i, *unit);
    }
    emit.close_or_drop();
  }
}

void make_adapter(const Lowering& low, Emitter& emit, std::size_t index) {
  emit.emit({.op = Op::kInitAdapter,
             .attributes = emit.attributes(FileAttributes{static_cast<std::int64_t>(index)}),
             .out = {{low.program.adapters[index].tensor}}});
}

void make_adapters(Lowering& low, Emitter& emit) {
  for (std::size_t i = 0; i < low.program.adapters.size(); ++i) {
    const AdapterBinding& binding = low.program.adapters[i];
    if (gathered_unit(low.program, binding.tensor) != nullptr) continue;
    open_layers(low, emit, binding.per_layer);
    make_adapter(low, emit, i);
    emit.close();
  }
}

// A unit whose tensors are quantized or drawn as a whole, of which the rank's part is kept.
void make_and_cut(Lowering& low, Emitter& emit, const GatheredUnit& unit) {
  const auto belongs = [&](TensorId tensor) {
    return low.program.tensor(tensor).storage == low.program.tensor(unit.whole).storage;
  };
  open_layers(low, emit, unit.per_layer);
  bool made = false;
  for (std::size_t i = 0; i < low.program.weights.size(); ++i) {
    const WeightBinding& binding = low.program.weights[i];
    if (!binding.scales || !belongs(binding.tensor)) continue;
    load_whole(low, emit, i);
    made = true;
  }
  for (std::size_t i = 0; i < low.program.adapters.size(); ++i) {
    if (!belongs(low.program.adapters[i].tensor)) continue;
    make_adapter(low, emit, i);
    made = true;
  }
  if (made) {
    for (const TensorId gap : emit.gaps(unit.gaps, unit.whole))
      emit.emit({.op = Op::kZero, .out = {{gap}}});
    const Tensor whole = low.program.tensor(unit.whole);
    const Tensor shard = low.program.tensor(unit.shard);
    const Bytes begin = low.request.rank * shard.shape.elements() * size_of(shard.dtype);
    const TensorId part = emit.tensor(whole.storage, shard.shape, whole.dtype, begin);
    emit.emit({.op = Op::kCopy, .in = {{part}}, .out = {{unit.shard}}});
  }
  emit.close_or_drop();
}

void make_states(Lowering& low, Emitter& emit) {
  for (const TrainedUnit& unit : low.program.units) {
    emit.open({.repeat = unit.layers, .axis = unit.per_layer ? Axis::kLayer : Axis::kOnce});
    const bool in_parts = unit.weights != unit.whole;
    const std::int64_t kept = low.program.tensor(unit.weights).shape.elements();
    for (const TensorId gap :
         emit.gaps(unit.gaps, unit.weights, in_parts ? low.request.rank * kept : 0)) {
      emit.emit({.op = Op::kZero, .out = {{gap}}});
    }
    for (const TensorId state : {unit.moment1, unit.moment2, unit.scale1, unit.scale2}) {
      if (state != kNone) emit.emit({.op = Op::kZero, .out = {{state}}});
    }
    if (unit.master != kNone) {
      const Tensor weights = low.program.tensor(unit.weights);
      const std::int64_t shard = low.program.tensor(unit.master).shape.elements();
      const std::int64_t begin = low.shards() && !in_parts ? low.request.rank * shard : 0;
      const TensorId part =
          emit.tensor(weights.storage, {shard}, weights.dtype, begin * size_of(weights.dtype));
      emit.emit({.op = Op::kCast, .in = {{part}}, .out = {{unit.master}}});
    }
    emit.close_or_drop();
  }
}

void make_rope_table(Lowering& low, Emitter& emit) {
  emit.emit({.op = Op::kRopeTable,
             .attributes = emit.attributes(rope_attributes(low.job.model)),
             .out = {{low.program.interface.rope_table}}});
}

}  // namespace

void build_load(Lowering& low) {
  Emitter emit(low.program);
  emit.set_phase(Phase::kLoad);
  emit.open({});
  load_weights(low, emit);
  make_adapters(low, emit);
  for (const GatheredUnit& unit : std::vector<GatheredUnit>(low.program.gathered))
    make_and_cut(low, emit, unit);
  make_states(low, emit);
  if (low.program.interface.rope_table != kNone) make_rope_table(low, emit);
  for (const TensorId sum : {low.program.interface.loss, low.program.interface.gradient_norm}) {
    emit.emit({.op = Op::kZero, .out = {{sum}}});
  }
  emit.close();
}

void build_save(Lowering& low) {
  Emitter emit(low.program);
  emit.set_phase(Phase::kSave);
  emit.open({});
  const auto store = [&](TensorId tensor, FileAttributes file) {
    emit.emit({.op = Op::kStore, .attributes = emit.attributes(file), .in = {{tensor}}});
  };
  const auto layers = static_cast<std::int32_t>(low.layers());
  const TensorId embedding = low.tensors.embedding;
  const auto store_all = [&](const auto& wanted) {
    for (std::size_t i = 0; i < low.program.weights.size(); ++i) {
      const WeightBinding& binding = low.program.weights[i];
      const bool first = binding.tensor == embedding;
      if (low.job.trains(binding.name) && wanted(binding.per_layer, first))
        store(binding.tensor, {.binding = static_cast<std::int64_t>(i)});
    }
    for (std::size_t i = 0; i < low.program.adapters.size(); ++i) {
      const AdapterBinding& binding = low.program.adapters[i];
      if (wanted(binding.per_layer, false))
        store(binding.tensor, {.binding = static_cast<std::int64_t>(i), .adapter = true});
    }
  };
  // As in a forward, so that one layer follows the other.
  emit.open({.axis = Axis::kLayer, .role = Role::kEmbed});
  store_all([](bool, bool first) { return first; });
  emit.close_or_drop();
  emit.open({.repeat = layers, .axis = Axis::kLayer, .role = Role::kLayers});
  store_all([](bool per_layer, bool) { return per_layer; });
  emit.close_or_drop();
  emit.open({.first = layers, .axis = Axis::kLayer, .role = Role::kHead});
  store_all([](bool per_layer, bool first) { return !per_layer && !first; });
  emit.close_or_drop();
  emit.close();
}

}  // namespace ftplan::program

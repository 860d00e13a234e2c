#include "program/load_program.h"

#include <cstddef>
#include <cstdint>

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

void load_weights(Lowering& low, Emitter& emit) {
  const auto layers = static_cast<std::int32_t>(low.layers());
  for (std::size_t i = 0; i < low.program.weights.size(); ++i) {
    const WeightBinding& binding = low.program.weights[i];
    emit.open({.repeat = binding.per_layer ? layers : 1,
               .axis = binding.per_layer ? Axis::kLayer : Axis::kOnce});
    Instruction load{.op = Op::kLoad, .out = {{binding.tensor}}};
    FileAttributes file{static_cast<std::int64_t>(i)};
    if (binding.scales) {
      file.quantized = low.job.model.stored_linears != StoredLinears::kPlain;
      const bool nf4 = low.program.tensor(binding.tensor).dtype == DType::kU8;
      load.op = nf4 ? Op::kLoadNf4 : Op::kLoadInt8;
      for (const TensorId id :
           {binding.scales.absmax, binding.scales.nested, binding.scales.offset}) {
        load.out.push_back({id});
      }
    }
    load.attributes = emit.attributes(file);
    emit.emit(load);
    emit.close();
  }
}

void make_adapters(Lowering& low, Emitter& emit) {
  const auto layers = static_cast<std::int32_t>(low.layers());
  for (std::size_t i = 0; i < low.program.adapters.size(); ++i) {
    const bool per_layer = low.program.adapters[i].per_layer;
    emit.open({.repeat = per_layer ? layers : 1, .axis = per_layer ? Axis::kLayer : Axis::kOnce});
    emit.emit({.op = Op::kInitAdapter,
               .attributes = emit.attributes(FileAttributes{static_cast<std::int64_t>(i)}),
               .out = {{low.program.adapters[i].tensor}}});
    emit.close();
  }
}

void make_states(Lowering& low, Emitter& emit) {
  for (const TrainedUnit& unit : low.program.units) {
    emit.open({.repeat = unit.layers, .axis = unit.per_layer ? Axis::kLayer : Axis::kOnce});
    for (const TensorId gap : emit.gaps(unit, unit.weights)) {
      emit.emit({.op = Op::kZero, .out = {{gap}}});
    }
    for (const TensorId state : {unit.moment1, unit.moment2, unit.scale1, unit.scale2}) {
      if (state != kNone) emit.emit({.op = Op::kZero, .out = {{state}}});
    }
    if (unit.master != kNone) {
      const Tensor weights = low.program.tensor(unit.weights);
      const std::int64_t shard = low.program.tensor(unit.master).shape.elements();
      const std::int64_t begin = low.shards() ? low.request.rank * shard : 0;
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
  make_states(low, emit);
  if (low.program.interface.rope_table != kNone) make_rope_table(low, emit);
  for (const TensorId sum : {low.program.interface.loss, low.program.interface.gradient_norm}) {
    emit.emit({.op = Op::kZero, .out = {{sum}}});
  }
  emit.close();
}

}  // namespace ftplan::program

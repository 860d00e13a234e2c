#include "core/result.h"
#include "program/attributes.h"
#include "program/emitter.h"
#include "program/lowering.h"
#include "program/op.h"
#include "program/passes/passes.h"
#include "program/step_program.h"
#include "program/update.h"

namespace ftplan::program {
namespace {

void open_unit(Emitter& emitter, const TrainedUnit& unit) {
  emitter.open({.repeat = unit.layers, .axis = unit.per_layer ? Axis::kLayer : Axis::kOnce});
}

}  // namespace

Result<void> optimize(Lowering& lowering) {
  if (!lowering.trains() || lowering.updates_in_backward()) return {};
  StepProgram& program = lowering.program;
  Emitter emitter(program);
  emitter.reopen(program.root);
  emitter.set_phase(Phase::kOptimizer);
  emitter.emit({.op = Op::kZero, .out = {{program.interface.gradient_norm}}});
  for (const TrainedUnit& unit : program.units) {
    open_unit(emitter, unit);
    add_to_norm(lowering, emitter, unit);
    emitter.close();
  }
  if (lowering.stage.count > 1) {
    emitter.emit({.op = Op::kAllReduce,
                  .attributes = emitter.attributes(CollectiveAttributes{
                      .ranks = lowering.stage.count, .rank = lowering.stage.index}),
                  .update = {{program.interface.gradient_norm}}});
  }
  const Operand coefficient = clip_by_norm(lowering, emitter);
  for (const TrainedUnit& unit : program.units) {
    open_unit(emitter, unit);
    update(lowering, emitter, unit, coefficient);
    emitter.close();
  }
  emitter.close();
  return {};
}

}  // namespace ftplan::program

#pragma once

#include "program/emitter.h"
#include "program/lowering.h"
#include "program/step_program.h"

/// The update of trained units, where a pass wants it.
namespace ftplan::program {

/// Adds the squares of the unit's gradient to the gradient norm.
void add_to_norm(const Lowering& lowering, Emitter& emitter, const TrainedUnit& unit);

/// Clips by the norm so far; sets `Scalar::kGradientsFinite`.
/// @return what gradients are multiplied with
Operand clip_by_norm(const Lowering& lowering, Emitter& emitter);

/// Updates the rank's part of the unit by the job's rule.
void update(Lowering& lowering, Emitter& emitter, const TrainedUnit& unit, Operand coefficient);

}  // namespace ftplan::program

#include "core/result.h"
#include "program/lifetimes.h"
#include "program/lowering.h"
#include "program/passes/passes.h"
#include "program/walk.h"

namespace ftplan::program {

Result<void> free_dead(Lowering& lowering) {
  lowering.steps = walk(lowering.program, lowering.sampling);
  lowering.lives = lives_of(lowering.program, lowering.steps);
  lowering.program.live = live_sets(lowering.program, lowering.steps, lowering.lives);
  return {};
}

}  // namespace ftplan::program

#include "core/result.h"
#include "program/lifetimes.h"
#include "program/lowering.h"
#include "program/passes/passes.h"
#include "program/walk.h"

namespace ftplan::program {

Result<void> free_dead(Lowering& lowering) {
  const Walk sampled = walk(lowering.program, lowering.sampling);
  lowering.program.live = live_sets(lowering.program, sampled, lives_of(lowering.program, sampled));
  return {};
}

}  // namespace ftplan::program

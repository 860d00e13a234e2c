#pragma once

#include <cstdint>
#include <vector>

#include "program/step_program.h"
#include "program/walk.h"

/// When the bytes of a storage are needed, from the order that streams and events guarantee.
namespace ftplan::program {

/// One copy of a storage from the step that defines it to the last that needs it, both included.
struct Life {
  StorageId storage = kNone;
  std::int32_t copy = 0;
  std::int32_t begin = 0;
  std::int32_t end = 0;
};

/// Between which steps of a walk each step may run.
struct Spans {
  std::vector<std::int32_t> begin;  ///< the first beside which it may: later than all it waits for
  std::vector<std::int32_t> end;    ///< the first of which the start implies its end, or the last
};
/// From what steps on other streams than the compute stream wait for and who waits for them.
Spans spans_of(const StepProgram& program, const Walk& walk);

/// Lives of all storages outside the persistent region, in order of `begin`. Copies are counted
/// without the layers that the walk leaves out. A use on another stream lasts until the compute
/// stream has waited for it.
std::vector<Life> lives_of(const StepProgram& program, const Walk& walk);

/// Sets, in one row of `LiveSets`, the positions of steps [begin, end] of `walk`.
void mark_positions(const Walk& walk, std::int32_t begin, std::int32_t end, std::uint64_t* row);

/// Positions at which each storage of the work region lives.
LiveSets live_sets(const StepProgram& program, const Walk& walk, const std::vector<Life>& lives);

}  // namespace ftplan::program

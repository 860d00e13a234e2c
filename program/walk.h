#pragma once

#include <cstdint>
#include <vector>

#include "program/step_program.h"

/// Programs as a flat list of what runs, whole or sampled.
namespace ftplan::program {

/// One run of an instruction.
struct Step {
  InstructionId instruction = kNone;
  std::int32_t position = 0;  ///< of the instruction in program order; equal for all its runs
  std::int32_t run =
      1;  ///< steps from here on, this one included, that follow each other in program order
  std::int32_t layer = -1;    ///< sum over the enclosing layer segments; -1 outside
  std::int32_t compact = -1;  ///< the layer when the left-out ones are not counted
  std::int32_t micro_step = 0;
  /// Equal iterations that were left out before this step, each like the one that began at `like`.
  std::int32_t skipped = 0;
  std::int32_t like = kNone;
};

/// How much of a repeated segment is walked.
enum class Sampling : std::uint8_t {
  kAll,
  /// A few layers and micro-steps from each end: enough for whatever is affine in their numbers.
  kEnds,
  /// As kEnds, and two of the micro-steps that repeat: what one leaves to the next one like it.
  kTurns,
};

struct Walk {
  std::vector<Step> steps;
  std::int32_t positions = 0;     ///< instructions in program order
  std::int32_t hidden_first = 0;  ///< first of the layers that are left out
  std::int32_t hidden = 0;        ///< how many

  /// The layer, or copy of a layer's storage, that a compact number means after the left-out ones.
  [[nodiscard]] std::int32_t layer_of(std::int32_t compact) const {
    return compact >= hidden_first ? compact + hidden : compact;
  }
};

Walk walk(const StepProgram& program, Sampling sampling);

/// Copy of its storage that `operand` means in `step`, the left-out layers not counted.
inline std::int32_t compact_copy(const StepProgram& program, Operand operand, const Step& step) {
  return program.storage_of(operand.tensor).copies.index(step.compact + operand.shift);
}

/// Copy of its storage that `operand` means in layer `layer`.
inline std::int32_t copy_of(const StepProgram& program, Operand operand, std::int32_t layer) {
  return program.storage_of(operand.tensor).copies.index(layer + operand.shift);
}

}  // namespace ftplan::program

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/result.h"
#include "program/clone.h"
#include "program/lowering.h"
#include "program/op.h"
#include "program/passes/passes.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

// Gradients are defined by the first micro-step and added to by every later one.
void add_to_gradients(StepProgram& program, const std::vector<Node>& nodes) {
  for (const InstructionId id : instructions_below(program, nodes)) {
    Instruction& instruction = program.instructions[static_cast<std::size_t>(id)];
    for (int i = 0; i < instruction.out.size(); ++i) {
      const Operand out = instruction.out[i];
      if (!out || program.storage_of(out.tensor).category != Category::kGradients) continue;
      instruction.accumulate |= static_cast<std::uint8_t>(1U << static_cast<unsigned>(i));
    }
  }
}

// The padding stays zero.
void drop_zeros(StepProgram& program, std::vector<Node>& nodes) {
  std::erase_if(nodes, [&](const Node& node) {
    return !node.is_segment && program.instruction(node.id).op == Op::kZero;
  });
  for (const Node& node : std::vector<Node>(nodes)) {
    if (node.is_segment)
      drop_zeros(program, program.segments[static_cast<std::size_t>(node.id)].body);
  }
}

}  // namespace

Result<void> accumulate(Lowering& lowering) {
  const auto steps = static_cast<std::int32_t>(lowering.strategy.accumulation);
  if (!lowering.trains() || steps == 1) return {};
  StepProgram& program = lowering.program;
  const SegmentId micro = program.segment(program.root).body.back().id;
  // Where only the last micro-step reduces, it is one of its own.
  const bool at_once = lowering.reduces_at_once();
  const bool last_reduces = lowering.job.data_parallel() > 1 && !at_once;
  std::vector<std::pair<std::int32_t, std::int32_t>> later = {{1, steps - 1}};
  if (last_reduces && steps > 2) later = {{1, steps - 2}, {steps - 1, 1}};
  for (const auto& [first, count] : later) {
    Segment segment = program.segment(micro);
    segment.body = clone_nodes(program, segment.body, {});
    // What is sent away at once is made anew each time.
    if (!at_once) {
      drop_zeros(program, segment.body);
      add_to_gradients(program, segment.body);
    }
    segment.first = first;
    segment.repeat = count;
    const Node node = add_segment(program, std::move(segment));
    program.segments[static_cast<std::size_t>(program.root)].body.push_back(node);
  }
  return {};
}

}  // namespace ftplan::program

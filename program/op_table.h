#pragma once

#include <string>

#include "core/machine.h"
#include "core/units.h"
#include "program/op.h"
#include "program/step_program.h"

/// One row per op, and everything about an op hangs on it. Estimator, passes, verifier and executor
/// read this table.
namespace ftplan::program {

class Backward;

/// An instruction with its operands looked up.
struct OpView {
  const StepProgram& program;
  const Instruction& instruction;

  [[nodiscard]] bool has_in(int i) const {
    return i < instruction.in.size() && static_cast<bool>(instruction.in[i]);
  }
  [[nodiscard]] bool has_out(int i) const {
    return i < instruction.out.size() && static_cast<bool>(instruction.out[i]);
  }
  [[nodiscard]] const Tensor& in(int i) const { return program.tensor(instruction.in[i]); }
  [[nodiscard]] const Tensor& out(int i) const { return program.tensor(instruction.out[i]); }
  [[nodiscard]] const Tensor& update(int i) const { return program.tensor(instruction.update[i]); }
  template <class A>
  [[nodiscard]] const A& attributes() const {
    return program.attributes_of<A>(instruction);
  }
};

/// Work of one instruction.
struct Cost {
  Flops flops;
  Bytes moved;  ///< read and written, each operand once
};

/// Bytes of scratch that one run of an instruction uses, and whether that is exact.
struct Scratch {
  Bytes bytes;
  bool exact =
      true;  ///< false: an upper bound, because this operation was not measured on this machine
};

/// How a forward value is had again in the backward without keeping it.
enum class Recall : std::uint8_t {
  kKept,     ///< it is kept
  kRepeat,   ///< `repeat_op` makes it again from what is kept or had again
  kYielded,  ///< its producer's backward puts it where the gradient of it was
};

struct OpRow {
  const char* name;
  /// Empty when operands, shapes and types agree; else what is wrong.
  std::string (*check)(const OpView&);
  Flops (*flops)(const OpView&);
  /// What one run takes beside its operands on `machine`.
  Scratch (*scratch)(const OpView&, const Machine&);
  /// Emits the gradients of `forward`'s inputs; null for ops that have none.
  void (*differentiate)(const Instruction& forward, Backward& backward);
  /// How `out[0]` is had again.
  Recall recall = Recall::kKept;
  /// Emits what makes out[0] again and yields it: for kRepeat, and for kYielded where the producer
  /// has no backward.
  void (*repeat)(const Instruction& forward, Backward& backward) = nullptr;
};

const OpRow& row_of(Op op);
inline const char* name_of(Op op) { return row_of(op).name; }

Cost cost_of(const OpView& view);

/// The key under which the scratch of an instruction is measured: op, shapes, layouts and types.
std::string scratch_key(const OpView& view);

/// The machine's measurement for `key`, or null.
const MeasuredScratch* find_scratch(const Machine& machine, const std::string& key);

}  // namespace ftplan::program

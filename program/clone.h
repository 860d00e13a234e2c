#pragma once

#include <vector>

#include "program/step_program.h"

/// Copies of parts of a program, with some tensors replaced by others.
namespace ftplan::program {

/// Which tensor stands for which: identity where it says nothing.
class TensorMap {
 public:
  void set(TensorId from, TensorId to);
  [[nodiscard]] TensorId operator()(TensorId id) const;
  /// Replaces the tensors of all operands.
  void apply(Instruction& instruction) const;

 private:
  std::vector<TensorId> map_;
};

/// Adds a storage like `storage`, one copy in the work region, and a tensor on it for each tensor
/// of the original; `map` then leads from the old tensors to the new ones. Returns the new storage.
StorageId clone_storage(StepProgram& program, StorageId storage, TensorMap& map);

/// Copies instructions and segments below `nodes`.
std::vector<Node> clone_nodes(StepProgram& program, const std::vector<Node>& nodes,
                              const TensorMap& map);

/// All instructions below `nodes`, in order.
std::vector<InstructionId> instructions_below(const StepProgram& program,
                                              const std::vector<Node>& nodes);

/// Appends a segment and returns the node of it.
Node add_segment(StepProgram& program, Segment segment);

/// Storages that `instruction` defines, adds to or updates.
std::vector<StorageId> written_storages(const StepProgram& program, const Instruction& instruction);
/// Storages that `instruction` reads, updates included.
std::vector<StorageId> read_storages(const StepProgram& program, const Instruction& instruction);

}  // namespace ftplan::program

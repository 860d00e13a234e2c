#include "program/clone.h"

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "program/step_program.h"

namespace ftplan::program {

void TensorMap::set(TensorId from, TensorId to) {
  const auto index = static_cast<std::size_t>(from);
  if (map_.size() <= index) map_.resize(index + 1, kNone);
  map_[index] = to;
}

TensorId TensorMap::operator()(TensorId id) const {
  const auto index = static_cast<std::size_t>(id);
  return id != kNone && index < map_.size() && map_[index] != kNone ? map_[index] : id;
}

void TensorMap::apply(Instruction& instruction) const {
  for (Operands* list : {&instruction.in, &instruction.out, &instruction.update}) {
    for (Operand& operand : *list) operand.tensor = (*this)(operand.tensor);
  }
}

StorageId clone_storage(StepProgram& program, StorageId storage, TensorMap& map) {
  Storage copy = program.storages[static_cast<std::size_t>(storage)];
  copy.copies = {};
  copy.region = Region::kWork;
  program.storages.push_back(copy);
  const auto id = static_cast<StorageId>(program.storages.size()) - 1;
  const std::size_t tensors = program.tensors.size();
  for (std::size_t t = 0; t < tensors; ++t) {
    if (program.tensors[t].storage != storage) continue;
    Tensor tensor = program.tensors[t];
    tensor.storage = id;
    program.tensors.push_back(tensor);
    map.set(static_cast<TensorId>(t), static_cast<TensorId>(program.tensors.size()) - 1);
  }
  return id;
}

Node add_segment(StepProgram& program, Segment segment) {
  program.segments.push_back(std::move(segment));
  return {static_cast<std::int32_t>(program.segments.size()) - 1, true};
}

std::vector<Node> clone_nodes(StepProgram& program, const std::vector<Node>& nodes,
                              const TensorMap& map) {
  std::vector<Node> copies;
  copies.reserve(nodes.size());
  for (const Node& node : nodes) {
    if (node.is_segment) {
      Segment segment = program.segment(node.id);
      segment.body = clone_nodes(program, segment.body, map);
      copies.push_back(add_segment(program, std::move(segment)));
      continue;
    }
    Instruction instruction = program.instruction(node.id);
    map.apply(instruction);
    program.instructions.push_back(instruction);
    copies.push_back({static_cast<std::int32_t>(program.instructions.size()) - 1, false});
  }
  return copies;
}

std::vector<InstructionId> instructions_below(const StepProgram& program,
                                              const std::vector<Node>& nodes) {
  std::vector<InstructionId> ids;
  for (const Node& node : nodes) {
    if (!node.is_segment) {
      ids.push_back(node.id);
      continue;
    }
    const auto inner = instructions_below(program, program.segment(node.id).body);
    ids.insert(ids.end(), inner.begin(), inner.end());
  }
  return ids;
}

std::vector<StorageId> written_storages(const StepProgram& program,
                                        const Instruction& instruction) {
  std::vector<StorageId> storages;
  for (const Operands* list : {&instruction.out, &instruction.update}) {
    for (const Operand& operand : *list) {
      if (operand) storages.push_back(program.tensor(operand).storage);
    }
  }
  return storages;
}

std::vector<StorageId> read_storages(const StepProgram& program, const Instruction& instruction) {
  std::vector<StorageId> storages;
  for (const Operands* list : {&instruction.in, &instruction.update}) {
    for (const Operand& operand : *list) {
      if (operand) storages.push_back(program.tensor(operand).storage);
    }
  }
  return storages;
}

}  // namespace ftplan::program

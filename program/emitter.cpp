#include "program/emitter.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/check.h"
#include "core/dtype.h"
#include "core/shape.h"
#include "core/units.h"
#include "program/attributes.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

template <class T>
std::int32_t append(std::vector<T>& list, T item) {
  list.push_back(std::move(item));
  return static_cast<std::int32_t>(list.size()) - 1;
}

}  // namespace

StorageId Emitter::storage(Storage storage) { return append(program_.storages, storage); }

TensorId Emitter::tensor(StorageId storage, Shape shape, DType dtype, Bytes offset) {
  Tensor tensor{.storage = storage,
                .offset = offset,
                .shape = shape,
                .row_stride = shape.width(),
                .dtype = dtype};
  FTPLAN_CHECK(offset + tensor.extent() <=
               program_.storages[static_cast<std::size_t>(storage)].size);
  return append(program_.tensors, tensor);
}

TensorId Emitter::columns(TensorId whole, std::int64_t first, std::int64_t width) {
  Tensor part = program_.tensor(whole);
  FTPLAN_CHECK(first + width <= part.shape.width());
  part.offset += first * size_of(part.dtype);
  part.shape = {part.shape.rows(), width};
  return append(program_.tensors, part);
}

std::vector<TensorId> Emitter::gaps(const std::vector<Gap>& gaps, TensorId flat,
                                    std::int64_t origin) {
  std::vector<TensorId> views;
  const Tensor run = program_.tensor(flat);
  for (const Gap& gap : gaps) {
    const std::int64_t begin = std::max(gap.begin - origin, std::int64_t{0});
    const std::int64_t end = std::min(gap.end - origin, run.shape.elements());
    if (begin >= end) continue;
    views.push_back(
        tensor(run.storage, {end - begin}, run.dtype, run.offset + begin * size_of(run.dtype)));
  }
  return views;
}

TensorId Emitter::transient(const char* name, Shape shape, DType dtype, Category category) {
  const Bytes size = shape.elements() * size_of(dtype);
  return tensor(storage({.size = size, .category = category, .name = name}), shape, dtype);
}

AttributesId Emitter::attributes(Attributes attributes) {
  return append(program_.attributes, std::move(attributes));
}

SegmentId Emitter::open(Segment segment) {
  const SegmentId id = append(program_.segments, std::move(segment));
  if (open_.empty()) {
    FTPLAN_CHECK(program_.root == kNone);
    program_.root = id;
  } else {
    program_.segments[static_cast<std::size_t>(open_.back())].body.push_back({id, true});
  }
  open_.push_back(id);
  return id;
}

void Emitter::close() {
  FTPLAN_CHECK(!open_.empty());
  open_.pop_back();
}

void Emitter::close_or_drop() {
  const SegmentId id = open_.back();
  close();
  if (!program_.segment(id).body.empty() || open_.empty()) return;
  auto& parent = program_.segments[static_cast<std::size_t>(open_.back())].body;
  FTPLAN_CHECK(!parent.empty() && parent.back() == (Node{id, true}));
  parent.pop_back();
}

Instruction& Emitter::emit(Instruction instruction) {
  FTPLAN_CHECK(!open_.empty());
  instruction.phase = phase_;
  const InstructionId id = append(program_.instructions, instruction);
  program_.segments[static_cast<std::size_t>(open_.back())].body.push_back({id, false});
  return program_.instructions[static_cast<std::size_t>(id)];
}

}  // namespace ftplan::program

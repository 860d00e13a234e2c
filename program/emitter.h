#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "core/category.h"
#include "core/dtype.h"
#include "core/shape.h"
#include "core/units.h"
#include "program/step_program.h"

namespace ftplan::program {

/// Appends to a program: storages, tensors, and instructions at the end of the open segment.
class Emitter {
 public:
  explicit Emitter(StepProgram& program) : program_(program) {}

  StepProgram& program() { return program_; }

  StorageId storage(Storage storage);
  /// A contiguous tensor at the start of, or `offset` into, `storage`.
  TensorId tensor(StorageId storage, Shape shape, DType dtype, Bytes offset = {});
  /// Columns [first, first + width) of `whole`.
  TensorId columns(TensorId whole, std::int64_t first, std::int64_t width);
  /// Views of the parts of `gaps` in `flat`, a run of the unit's elements from `origin` on.
  std::vector<TensorId> gaps(const std::vector<Gap>& gaps, TensorId flat, std::int64_t origin = 0);
  /// A storage of its own in the work region, and the tensor that fills it.
  TensorId transient(const char* name, Shape shape, DType dtype,
                     Category category = Category::kActivations);
  AttributesId attributes(Attributes attributes);
  EventId event() { return program_.events++; }

  /// Opens a segment inside the open one; what is emitted goes there until `close`.
  SegmentId open(Segment segment);
  /// Goes on at the end of a segment that was closed, or was there before.
  void reopen(SegmentId segment) { open_.push_back(segment); }
  void close();
  /// Closes the open segment and takes it out of its parent when nothing was emitted into it.
  void close_or_drop();

  Instruction& emit(Instruction instruction);
  /// The phase of what is emitted from now on.
  void set_phase(Phase phase) { phase_ = phase; }
  [[nodiscard]] Phase phase() const { return phase_; }

 private:
  StepProgram& program_;
  std::vector<SegmentId> open_;
  Phase phase_ = Phase::kForward;
};

}  // namespace ftplan::program

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "executor/scratch.h"
#include "program/step_program.h"

namespace ftplan::executor {

/// Values of `Scalar` by index.
using Scalars = std::array<double, program::kScalars>;

/// A tensor and its bytes. `data` is null for an absent optional operand.
struct View {
  std::byte* data = nullptr;
  const program::Tensor* tensor = nullptr;

  explicit operator bool() const { return data != nullptr; }
  template <class T>
  [[nodiscard]] T* as() const {
    return reinterpret_cast<T*>(data);
  }
  [[nodiscard]] DType dtype() const { return tensor->dtype; }
  [[nodiscard]] std::int64_t rows() const { return tensor->shape.rows(); }
  [[nodiscard]] std::int64_t width() const { return tensor->shape.width(); }
  [[nodiscard]] std::int64_t elements() const { return tensor->shape.elements(); }
};

/// One run of an instruction: all that a kernel gets.
struct Call {
  const program::StepProgram& program;
  const program::Instruction& instruction;
  std::int32_t layer = -1;  ///< of the program
  std::array<View, 8> in{}, out{}, update{};
  Scratch& scratch;
  Scalars& scalars;
  int threads = 1;
  bool native_bf16 = true;  ///< as `Machine::native_bf16`

  [[nodiscard]] std::int32_t model_layer() const { return program.model_layer(layer); }
  [[nodiscard]] bool accumulates(int i) const { return (instruction.accumulate >> i & 1) != 0; }
  [[nodiscard]] double scalar(program::Scalar s) const {
    return scalars[static_cast<std::size_t>(s)];
  }
  template <class A>
  [[nodiscard]] const A& attributes() const {
    return program.attributes_of<A>(instruction);
  }
};

}  // namespace ftplan::executor

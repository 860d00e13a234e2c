#pragma once

#include <array>
#include <string>

#include "executor/call.h"
#include "program/op.h"

/// What computes an op on a CPU. The same sources are compiled for each instruction set.
namespace ftplan::executor {

using Kernel = void (*)(Call&);

/// Kernels by `Op`; null for ops that the interpreter does itself (files, batches, collectives,
/// marks).
struct Kernels {
  std::array<Kernel, program::kOps> run{};
  const char* instruction_set = "";

  [[nodiscard]] Kernel of(program::Op op) const { return run[static_cast<std::size_t>(op)]; }
};

namespace avx2 {
const Kernels& kernels();
}
namespace avx512 {
const Kernels& kernels();
}

/// The best of this processor's instruction sets, "avx512" or "avx2"; empty when it has neither.
std::string best_instruction_set();
/// @pre the processor has it
const Kernels& kernels_of(const std::string& instruction_set);

}  // namespace ftplan::executor

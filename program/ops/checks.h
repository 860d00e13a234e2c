#pragma once

#include <string>

#include "core/machine.h"
#include "core/units.h"
#include "program/op_table.h"
#include "program/step_program.h"

/// What several rows share: shape rules, zero work, no scratch.
namespace ftplan::program {

inline std::string agree(bool condition, const char* otherwise) {
  return condition ? std::string() : std::string(otherwise);
}

inline bool same_shape(const Tensor& a, const Tensor& b) { return a.shape == b.shape; }
inline bool same(const Tensor& a, const Tensor& b) {
  return a.shape == b.shape && a.dtype == b.dtype;
}

inline Flops no_flops(const OpView&) { return {}; }
inline Scratch no_scratch(const OpView&, const Machine&) { return {}; }

/// One operation per element of the first output or updated tensor, times `factor`.
inline Flops flops_per_element(const Tensor& tensor, double factor) {
  return {factor * static_cast<double>(tensor.shape.elements())};
}

/// Chunk of a reduction whose partial sums are added in a fixed order, so that the sum does not
/// depend on threads.
inline constexpr std::int64_t kReductionChunk = 1 << 15;

}  // namespace ftplan::program

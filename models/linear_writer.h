#pragma once

#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/shape.h"
#include "models/linear_rows.h"
#include "models/safetensors_header.h"
#include "models/safetensors_writer.h"

/// Tensors of a file from the rows of a matrix, a stretch of rows at a time.
namespace ftplan::models {

/// The tensors that hold the matrix `name`; `dtype` is of floats, and what codes say they were.
std::vector<TensorSpec> specs_of_linear(const std::string& name, const Shape& shape, DType dtype,
                                        StoredLinears stored);

/// Writes these tensors. Codes are those that bitsandbytes makes of the f32 values.
/// @return what was lost; where `not_finite` is not 0, what was written means nothing
Result<Rounding> write_linear(const std::string& name, const LinearRows& rows, DType dtype,
                              StoredLinears stored, int threads, SafetensorsWriter& writer);

}  // namespace ftplan::models

#pragma once

#include <variant>

#include "executor/call.h"
#include "executor/ops/int8.h"
#include "executor/ops/nf4.h"
#include "executor/ops/simd.h"
#include "executor/products.h"

/// Products with weights whose values exist as one block a thread.
namespace ftplan::executor::FTPLAN_ISA {

using PackedMatrix = std::variant<const Nf4Matrix*, const Int8Matrix*>;

/// `c = a op(b) + beta * c` with a block of b at a time. Scratch is given back.
void product_packed(Call& call, const Matrix& a, PackedMatrix b, Transposed b_transposed,
                    const Matrix& c, double beta);

}  // namespace ftplan::executor::FTPLAN_ISA

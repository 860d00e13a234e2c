#pragma once

#include "program/lowering.h"

namespace ftplan::program {

/// Declares what lives across steps: weights, adapters, masters, moments, tables; and the gradients
/// of trained units. The order and sizes do not depend on the kind of program.
void declare_state(Lowering& lowering);

}  // namespace ftplan::program

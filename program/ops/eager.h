#pragma once

#include "program/op_table.h"

/// Operations of an eager trainer such as Hugging Face transformers: each makes new tensors, and
/// autograd keeps what the gradients of its inputs need. They are priced, not executed.
///
/// Operands   in and out as the operation's own; what is kept per input is in `EagerAttributes`
/// @source torch 2.11 tools/autograd/derivatives.yaml
namespace ftplan::program {

OpRow eager_row();
OpRow eager_backward_row();

const char* name_of(EagerKind kind);

}  // namespace ftplan::program

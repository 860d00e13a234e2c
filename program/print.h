#pragma once

#include <string>

#include "program/step_program.h"

namespace ftplan::program {

/// The whole program as text: storages with their places, segments with their repeats, one
/// instruction a line.
std::string print(const StepProgram& program);

/// One instruction: `d key, d value = attention_backward(d output, query, ...)`.
std::string print(const StepProgram& program, const Instruction& instruction);

}  // namespace ftplan::program

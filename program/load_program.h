#pragma once

#include "program/lowering.h"

/// The program that fills what lives across steps.
namespace ftplan::program {

/// Every weight from the checkpoint, adapters from a file or new, masters, moments and tables.
void build_load(Lowering& lowering);

}  // namespace ftplan::program

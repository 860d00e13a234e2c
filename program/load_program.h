#pragma once

#include "program/lowering.h"

/// The programs that fill what lives across steps, and hand it out again.
namespace ftplan::program {

/// Every weight from the checkpoint, adapters from a file or new, masters, moments and tables.
/// Where ranks keep parts, each reads its part of plain weights; packed weights and adapters are
/// made whole, one unit at a time, and cut.
void build_load(Lowering& lowering);

/// Hands adapters and the weights that are trained to the host, whole.
void build_save(Lowering& lowering);

}  // namespace ftplan::program

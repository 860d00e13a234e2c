#pragma once

#include "program/lowering.h"

/// The programs that fill what lives across steps, and that write it out.
namespace ftplan::program {

/// Every weight from the checkpoint, adapters from a file or new, masters, moments and tables.
void build_load(Lowering& lowering);

/// The files of a resumable checkpoint and of the result, as storages on disk with their exact sizes.
void build_save(Lowering& lowering);

}  // namespace ftplan::program

#pragma once

#include "program/op_table.h"

/// Collectives over all ranks. Every rank issues them in one order with equal sizes. 16-bit values
/// travel as they are and are added in f32, in rank order.
///
/// Shapes   full_N, shard_(N/R)                        R ranks
namespace ftplan::program {

/// in {full}, out {shard}: the rank's shard of the sum; the shard may be the rank's part of full.
/// CollectiveAttributes
OpRow reduce_scatter_row();
/// update {full}: each rank's part reaches all. CollectiveAttributes
OpRow all_gather_row();
/// update {values}: the sum reaches all. CollectiveAttributes
OpRow all_reduce_row();

/// Does nothing but signal: a place in the order of its stream
OpRow mark_row();

bool is_collective(Op op);

}  // namespace ftplan::program

#pragma once

#include "program/op_table.h"

/// What goes between ranks. Collectives are over all of them: every rank issues them in one order
/// with equal sizes. 16-bit values
/// travel as they are and are added in f32, in rank order.
///
/// Shapes   full_N, shard_(N/R)                        R ranks
namespace ftplan::program {

/// in {full}, out {shard}: the rank's shard of the sum, in the type of full or f32; accumulate: the
/// sum is added to it. The shard may be the rank's part of full. CollectiveAttributes
OpRow reduce_scatter_row();
/// update {full}: each rank's part reaches all. Or in {shard}, out {full}: what they keep in parts
/// is put together. CollectiveAttributes
OpRow all_gather_row();
/// update {values}: the sum reaches all. CollectiveAttributes
OpRow all_reduce_row();

/// in {values}: to another rank, which receives as many of the same type. PeerAttributes
OpRow send_row();
/// out {values}: from another rank. PeerAttributes
OpRow receive_row();

/// Does nothing but signal: a place in the order of its stream
OpRow mark_row();

bool is_collective(Op op);
/// Between two ranks.
bool is_transfer(Op op);
/// Either of the two: what runs on the stream for communication.
bool communicates(Op op);

}  // namespace ftplan::program

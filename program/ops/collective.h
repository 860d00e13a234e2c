#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/units.h"
#include "program/op_table.h"

/// What goes between ranks. Collectives are over all of them: every rank issues them in one order
/// with equal sizes. 16-bit values travel as they are and are added in f32, in an order that only
/// the number of ranks decides.
///
/// Shapes   full_N, shard_(N/R)                        R ranks
/// Scratch  on CPUs a ring's partial sums, see `RingBuffers`; none for all_gather
namespace ftplan::program {

/// Where a ring holds what it receives until it is added: values travel in pieces, `lanes` of them
/// at a time, and where a sum is passed on each lane receives into one buffer while it sends from
/// the other.
struct RingBuffers {
  std::int64_t part = 0;   ///< elements that each rank adds up; the last may have fewer
  std::int64_t piece = 0;  ///< elements that travel together
  std::int64_t lanes = 0;
  std::int64_t buffers = 0;  ///< of each lane
  Bytes buffer{};            ///< size of one

  [[nodiscard]] std::int64_t pieces() const { return piece == 0 ? 0 : divide_up(part, piece); }
  [[nodiscard]] Bytes total() const { return lanes * buffers * buffer; }
};
RingBuffers ring_buffers(std::int64_t elements, DType dtype, std::int64_t ranks);

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

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "core/dtype.h"
#include "executor/call.h"
#include "executor/communicator.h"
#include "executor/transport.h"
#include "program/ops/collective.h"

/// Collectives as rings: each rank sends to the next and receives from the one before, so that
/// every link carries (R-1)/R of the values once. Values travel in their type; each hop adds in
/// f32, f64 in f64. The sum of part p is ((x_(p+1) + x_(p+2)) + ...) + x_p, ranks modulo R: the
/// same bits in every run on R ranks.
namespace ftplan::executor {

/// Collectives that run beside each other have channels of their own.
inline constexpr int kMostChannels = 8;

/// One rank's part of a reduction.
struct RingReduction {
  DType dtype = DType::kF32;
  std::span<const std::byte> whole;
  /// Of `ring.part` elements or, on the last rank, the rest. It may be the rank's part of `whole`.
  std::byte* result = nullptr;
  std::optional<DType> result_dtype{};  ///< where it is not `dtype`: f32
  bool accumulates = false;             ///< the sum is added to what is there
  program::RingBuffers ring{};
  std::span<std::byte> buffer;  ///< of `ring.total()` bytes
  int channel = 0;
};

/// `result` gets the sum of the rank's part of `whole`.
/// @throws PeerLost
void ring_reduce_scatter(Transport& transport, const RingReduction& reduction);

/// Rank r's part of `whole`, bytes [r * part, (r + 1) * part), reaches all; the last parts may be
/// short or empty.
/// @throws PeerLost
void ring_all_gather(Transport& transport, std::span<std::byte> whole, std::int64_t part,
                     int channel = 0);

/// Collectives of programs over a transport; each stream has a channel of its own, the first is
/// left to others.
class RingCommunicator final : public Communicator {
 public:
  explicit RingCommunicator(Transport& transport) : transport_(transport) {}
  /// @throws PeerLost
  void run(const Call& call) override;
  void abort() override { transport_.abort(); }

 private:
  Transport& transport_;
};

}  // namespace ftplan::executor

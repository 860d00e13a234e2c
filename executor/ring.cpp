#include "executor/ring.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "core/check.h"
#include "core/dtype.h"
#include "core/units.h"
#include "executor/call.h"
#include "executor/transport.h"
#include "models/convert.h"
#include "program/attributes.h"
#include "program/op.h"
#include "program/ops/collective.h"

// Note [Rings]
// Part p ends at rank p after R-1 hops; it starts at rank p+1. At hop h a rank so receives part
// rank-1-h, and sends the part that it received a hop before, its own values at hop 1. A piece's
// hops depend on each other, those of the other lane do not: while one lane adds, the other
// travels.

namespace ftplan::executor {
namespace {

using program::Op;

template <class T>
void add_as(const std::byte* a, const std::byte* b, std::byte* out, std::int64_t count) {
  const T* left = reinterpret_cast<const T*>(a);
  const T* right = reinterpret_cast<const T*>(b);
  T* sum = reinterpret_cast<T*>(out);
  for (std::int64_t i = 0; i < count; ++i) sum[i] = left[i] + right[i];
}

// Values that are widened at a time.
constexpr std::int64_t kBlock = 512;

// 16-bit values, widened block by block.
void add_widened(DType dtype, const std::byte* a, const std::byte* b, std::byte* out,
                 std::int64_t count) {
  const std::int64_t size = size_of(dtype).value;
  std::array<float, kBlock> left;
  std::array<float, kBlock> right;
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const auto n = static_cast<std::size_t>(std::min(kBlock, count - begin));
    const std::size_t bytes = n * static_cast<std::size_t>(size);
    models::to_f32({a + begin * size, bytes}, dtype, {left.data(), n});
    models::to_f32({b + begin * size, bytes}, dtype, {right.data(), n});
    for (std::size_t i = 0; i < n; ++i) left[i] += right[i];
    models::from_f32({left.data(), n}, dtype, {out + begin * size, bytes});
  }
}

void add(DType dtype, const std::byte* a, const std::byte* b, std::byte* out, std::int64_t count) {
  if (dtype == DType::kF32) return add_as<float>(a, b, out, count);
  if (dtype == DType::kF64) return add_as<double>(a, b, out, count);
  FTPLAN_CHECK(dtype == DType::kBf16 || dtype == DType::kF16);
  add_widened(dtype, a, b, out, count);
}

// The last hop of a sum that is added to another, or kept in another type: rounded once.
void add_last(const RingReduction& what, const std::byte* a, const std::byte* b, std::byte* result,
              std::int64_t count) {
  const DType to = what.result_dtype.value_or(what.dtype);
  if (what.dtype == DType::kF64) {
    const auto* left = reinterpret_cast<const double*>(a);
    const auto* right = reinterpret_cast<const double*>(b);
    auto* sum = reinterpret_cast<double*>(result);
    for (std::int64_t i = 0; i < count; ++i)
      sum[i] = what.accumulates ? sum[i] + (left[i] + right[i]) : left[i] + right[i];
    return;
  }
  std::array<float, kBlock> sum;
  std::array<float, kBlock> other;
  const auto block_of = [&](auto* bytes, DType dtype, std::int64_t begin, std::size_t n) {
    const auto size = static_cast<std::size_t>(size_of(dtype).value);
    return std::span(bytes + begin * static_cast<std::int64_t>(size), n * size);
  };
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const auto n = static_cast<std::size_t>(std::min(kBlock, count - begin));
    models::to_f32(block_of(a, what.dtype, begin, n), what.dtype, {sum.data(), n});
    models::to_f32(block_of(b, what.dtype, begin, n), what.dtype, {other.data(), n});
    for (std::size_t i = 0; i < n; ++i) sum[i] += other[i];
    const auto target = block_of(result, to, begin, n);
    if (what.accumulates) {
      models::to_f32(target, to, {other.data(), n});
      for (std::size_t i = 0; i < n; ++i) sum[i] = other[i] + sum[i];
    }
    models::from_f32({sum.data(), n}, to, target);
  }
}

class Reduction {
 public:
  Reduction(Transport& transport, const RingReduction& reduction)
      : transport_(transport),
        what_(reduction),
        ring_(reduction.ring),
        size_(size_of(reduction.dtype).value),
        elements_(static_cast<std::int64_t>(reduction.whole.size()) / size_),
        ranks_(transport.ranks()),
        lanes_(static_cast<std::size_t>(reduction.ring.lanes)) {
    FTPLAN_CHECK(static_cast<std::int64_t>(what_.buffer.size()) == ring_.total().value);
    FTPLAN_CHECK(what_.channel < kMostChannels);
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
      const auto lane = static_cast<std::int64_t>(i);
      lanes_[i].piece = lane;
      lanes_[i].buffers = what_.buffer.data() + lane * ring_.buffers * ring_.buffer.value;
    }
  }

  void run() {
    for (Lane& lane : lanes_) begin(lane);
    for (bool active = !lanes_.empty(); active;) {
      active = false;
      for (Lane& lane : lanes_) {
        if (lane.piece >= ring_.pieces()) continue;
        finish(lane);
        advance(lane);
        if (lane.piece >= ring_.pieces()) continue;
        begin(lane);
        active = true;
      }
    }
  }

 private:
  struct Lane {
    std::int64_t piece = 0;
    int hop = 1;
    std::byte* buffers = nullptr;
    std::unique_ptr<Transfer> sending, receiving;
  };

  // Elements of a part's piece; none where the values end before it.
  struct Range {
    std::int64_t begin = 0;
    std::int64_t count = 0;
  };
  [[nodiscard]] Range range_of(int part, std::int64_t piece) const {
    const std::int64_t begin = part * ring_.part + piece * ring_.piece;
    const std::int64_t end = std::min({begin + ring_.piece, (part + 1) * ring_.part, elements_});
    return {begin, std::max<std::int64_t>(0, end - begin)};
  }
  [[nodiscard]] int modulo(int rank) const { return (rank % ranks_ + ranks_) % ranks_; }
  [[nodiscard]] int received_part(int hop) const { return modulo(transport_.rank() - 1 - hop); }
  [[nodiscard]] std::byte* buffer_of(const Lane& lane, int hop) const {
    return lane.buffers + hop % ring_.buffers * ring_.buffer.value;
  }
  [[nodiscard]] const std::byte* own(Range range) const {
    return what_.whole.data() + range.begin * size_;
  }
  [[nodiscard]] std::size_t bytes(Range range) const {
    return static_cast<std::size_t>(range.count * size_);
  }

  void begin(Lane& lane) {
    const auto tag =
        static_cast<std::int32_t>(lane.piece % ring_.lanes * kMostChannels + what_.channel);
    const Range in = range_of(received_part(lane.hop), lane.piece);
    const Range out = range_of(received_part(lane.hop - 1), lane.piece);
    const std::byte* from = lane.hop == 1 ? own(out) : buffer_of(lane, lane.hop - 1);
    if (in.count > 0) {
      lane.receiving = transport_.receive(modulo(transport_.rank() - 1), tag,
                                          {buffer_of(lane, lane.hop), bytes(in)});
    }
    if (out.count > 0)
      lane.sending = transport_.send(modulo(transport_.rank() + 1), tag, {from, bytes(out)});
  }

  void finish(Lane& lane) {
    if (lane.receiving) {
      lane.receiving->wait();
      lane.receiving.reset();
      const Range range = range_of(received_part(lane.hop), lane.piece);
      std::byte* arrived = buffer_of(lane, lane.hop);
      if (lane.hop + 1 < ranks_) {
        add(what_.dtype, arrived, own(range), arrived, range.count);
      } else {
        add_to_result(lane.piece, arrived, range);
      }
    }
    if (lane.sending) {
      lane.sending->wait();
      lane.sending.reset();
    }
  }

  void add_to_result(std::int64_t piece, const std::byte* arrived, Range range) {
    const DType to = what_.result_dtype.value_or(what_.dtype);
    std::byte* result = what_.result + piece * ring_.piece * size_of(to).value;
    if (what_.accumulates || to != what_.dtype)
      return add_last(what_, arrived, own(range), result, range.count);
    add(what_.dtype, arrived, own(range), result, range.count);
  }

  void advance(Lane& lane) const {
    if (++lane.hop < ranks_) return;
    lane.hop = 1;
    lane.piece += ring_.lanes;
  }

  Transport& transport_;
  const RingReduction& what_;
  const program::RingBuffers& ring_;
  std::int64_t size_;
  std::int64_t elements_;
  int ranks_;
  std::vector<Lane> lanes_;
};

std::span<std::byte> contents_of(const View& view) {
  return {view.data, static_cast<std::size_t>((view.elements() * size_of(view.dtype())).value)};
}

}  // namespace

void ring_reduce_scatter(Transport& transport, const RingReduction& reduction) {
  Reduction(transport, reduction).run();
}

void ring_all_gather(Transport& transport, std::span<std::byte> whole, std::int64_t part,
                     int channel) {
  const int ranks = transport.ranks();
  const auto size = static_cast<std::int64_t>(whole.size());
  const auto part_of = [&](int rank) {
    const std::int64_t begin = std::min(rank % ranks * part, size);
    const std::int64_t end = std::min(begin + part, size);
    return whole.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  };
  for (int hop = 1; hop < ranks; ++hop) {
    const auto in = part_of(transport.rank() + ranks - hop);
    const auto out = part_of(transport.rank() + ranks - hop + 1);
    std::unique_ptr<Transfer> receiving;
    std::unique_ptr<Transfer> sending;
    if (!in.empty())
      receiving = transport.receive((transport.rank() + ranks - 1) % ranks, channel, in);
    if (!out.empty()) sending = transport.send((transport.rank() + 1) % ranks, channel, out);
    if (receiving) receiving->wait();
    if (sending) sending->wait();
  }
}

void RingCommunicator::run(const Call& call) {
  const Op op = call.instruction.op;
  const std::int64_t ranks = transport_.ranks();
  const int channel = 1 + static_cast<int>(call.instruction.stream);
  if (program::is_transfer(op)) {
    const auto peer = static_cast<int>(call.attributes<program::PeerAttributes>().rank);
    const View& values = op == Op::kSend ? call.in[0] : call.out[0];
    const std::span bytes(values.data, static_cast<std::size_t>(values.tensor->extent().value));
    return (op == Op::kSend ? transport_.send(peer, channel, bytes)
                            : transport_.receive(peer, channel, bytes))
        ->wait();
  }
  if (op == Op::kAllGather) {
    // In place, or from a part that lies elsewhere.
    const auto whole = contents_of(call.in[0] ? call.out[0] : call.update[0]);
    const auto part = static_cast<std::int64_t>(whole.size()) / ranks;
    if (call.in[0]) {
      const auto own = contents_of(call.in[0]);
      std::memcpy(whole.data() + transport_.rank() * part, own.data(), own.size());
    }
    return ring_all_gather(transport_, whole, part, channel);
  }
  const bool reduces_all = op == Op::kAllReduce;
  FTPLAN_CHECK(reduces_all || op == Op::kReduceScatter);
  const View& values = reduces_all ? call.update[0] : call.in[0];
  const auto whole = contents_of(values);
  const auto ring = program::ring_buffers(values.elements(), values.dtype(), ranks);
  const std::int64_t part = ring.part * size_of(values.dtype()).value;
  const std::int64_t own =
      std::min(transport_.rank() * part, static_cast<std::int64_t>(whole.size()));
  ring_reduce_scatter(transport_,
                      {.dtype = values.dtype(),
                       .whole = whole,
                       .result = reduces_all ? whole.data() + own : call.out[0].data,
                       .result_dtype = reduces_all ? values.dtype() : call.out[0].dtype(),
                       .accumulates = !reduces_all && call.accumulates(0),
                       .ring = ring,
                       .buffer = call.scratch.take_array<std::byte>(ring.total().value),
                       .channel = channel});
  if (reduces_all) ring_all_gather(transport_, whole, part, channel);
}

}  // namespace ftplan::executor

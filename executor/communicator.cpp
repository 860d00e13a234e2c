#include "executor/communicator.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <vector>

#include "core/check.h"
#include "core/dtype.h"
#include "executor/call.h"
#include "models/convert.h"
#include "program/attributes.h"
#include "program/op.h"
#include "program/ops/collective.h"

namespace ftplan::executor {
namespace {

using program::Op;

double value_at(const View& view, std::int64_t i) {
  switch (view.dtype()) {
    case DType::kF64:
      return view.as<double>()[i];
    case DType::kF32:
      return view.as<float>()[i];
    default: {
      const std::int64_t size = size_of(view.dtype()).value;
      float value = 0;
      models::to_f32({view.data + i * size, static_cast<std::size_t>(size)}, view.dtype(),
                     {&value, 1});
      return value;
    }
  }
}

void store(const View& view, std::int64_t i, double value) {
  switch (view.dtype()) {
    case DType::kF64:
      view.as<double>()[i] = value;
      return;
    case DType::kF32:
      view.as<float>()[i] = static_cast<float>(value);
      return;
    default: {
      const auto single = static_cast<float>(value);
      const std::int64_t size = size_of(view.dtype()).value;
      models::from_f32({&single, 1}, view.dtype(),
                       {view.data + i * size, static_cast<std::size_t>(size)});
    }
  }
}

double add(const View& like, double a, double b) {
  return like.dtype() == DType::kF64 ? a + b : static_cast<float>(a) + static_cast<float>(b);
}

void reduce_scatter(const std::vector<const Call*>& calls) {
  for (std::size_t rank = 0; rank < calls.size(); ++rank) {
    const View& shard = calls[rank]->out[0];
    const std::int64_t count = shard.elements();
    const auto begin = static_cast<std::int64_t>(rank) * count;
    for (std::int64_t i = 0; i < count; ++i) {
      double sum = 0;
      for (const Call* call : calls) sum = add(shard, sum, value_at(call->in[0], begin + i));
      if (calls[rank]->accumulates(0)) sum = add(shard, value_at(shard, i), sum);
      store(shard, i, sum);
    }
  }
}

void all_gather(const std::vector<const Call*>& calls) {
  const auto ranks = static_cast<std::int64_t>(calls.size());
  for (std::int64_t from = 0; from < ranks; ++from) {
    const Call& source = *calls[static_cast<std::size_t>(from)];
    const bool in_place = !source.in[0];
    const View& values = in_place ? source.update[0] : source.in[0];
    const std::int64_t parts = in_place ? ranks : 1;
    const std::int64_t bytes = values.elements() / parts * size_of(values.dtype()).value;
    const std::byte* part = values.data + (in_place ? from * bytes : 0);
    for (std::int64_t to = 0; to < ranks; ++to) {
      if (in_place && to == from) continue;
      const Call& target = *calls[static_cast<std::size_t>(to)];
      const View& whole = in_place ? target.update[0] : target.out[0];
      std::memcpy(whole.data + from * bytes, part, static_cast<std::size_t>(bytes));
    }
  }
}

void all_reduce(const std::vector<const Call*>& calls) {
  const std::int64_t count = calls[0]->update[0].elements();
  for (std::int64_t i = 0; i < count; ++i) {
    double sum = 0;
    for (const Call* call : calls) sum = add(call->update[0], sum, value_at(call->update[0], i));
    for (const Call* call : calls) store(call->update[0], i, sum);
  }
}

void compute(const std::vector<const Call*>& calls) {
  const Op op = calls[0]->instruction.op;
  for (const Call* call : calls) FTPLAN_CHECK(call->instruction.op == op);
  if (op == Op::kReduceScatter) return reduce_scatter(calls);
  if (op == Op::kAllGather) return all_gather(calls);
  FTPLAN_CHECK(op == Op::kAllReduce);
  all_reduce(calls);
}

// The second of a sender and its receiver copies.
bool meet(std::vector<const Call*>& arrived, int rank, const Call& call) {
  const std::int64_t peer = call.attributes<program::PeerAttributes>().rank;
  const Call*& other = arrived[static_cast<std::size_t>(peer)];
  const bool sends = call.instruction.op == Op::kSend;
  const bool matches = other != nullptr &&
                       other->instruction.op == (sends ? Op::kReceive : Op::kSend) &&
                       other->attributes<program::PeerAttributes>().rank == rank;
  if (!matches) return false;
  const View& from = sends ? call.in[0] : other->in[0];
  const View& to = sends ? other->out[0] : call.out[0];
  FTPLAN_CHECK(from.dtype() == to.dtype() && from.elements() == to.elements());
  std::memcpy(to.data, from.data, static_cast<std::size_t>(from.tensor->extent().value));
  other = nullptr;
  return true;
}

}  // namespace

bool InProcessGroup::arrive(Room& room, int rank, const Call& call) {
  const Call*& place = room.arrived[static_cast<std::size_t>(rank)];
  FTPLAN_CHECK(place == nullptr);
  if (program::is_transfer(call.instruction.op) && meet(room.arrived, rank, call)) {
    --room.count;
    return true;
  }
  place = &call;
  if (++room.count < room.arrived.size()) return false;
  compute(room.arrived);
  std::fill(room.arrived.begin(), room.arrived.end(), nullptr);
  room.count = 0;
  return true;
}

bool InProcessGroup::arrive(int rank, const Call& call) {
  return arrive(room_of(call.instruction.stream), rank, call);
}

void InProcessGroup::run(int rank, const Call& call) {
  Room& room = room_of(call.instruction.stream);
  std::unique_lock lock(room.mutex);
  if (arrive(room, rank, call)) {
    room.done.notify_all();
  } else {
    room.done.wait(lock, [&] { return room.arrived[static_cast<std::size_t>(rank)] != &call; });
  }
}

}  // namespace ftplan::executor

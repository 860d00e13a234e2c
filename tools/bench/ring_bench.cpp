// Our side of tools/bench/collectives: ring_bench RANK RANKS PORT, then on standard input lines
// `OPERATION ELEMENTS` of f32, each answered by its seconds.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"
#include "executor/process_group.h"
#include "executor/ring.h"
#include "executor/torch_group.h"
#include "executor/transport.h"
#include "program/ops/collective.h"
#include "tools/network.h"

namespace {

using namespace ftplan;

template <class T>
T need(Result<T> result) {
  if (result) return std::move(*result);
  std::fprintf(stderr, "ring_bench: %s\n", result.error().text().c_str());
  std::exit(1);
}

void run(executor::Transport& transport, const std::string& operation, std::span<float> values,
         std::span<std::byte> shard, std::span<std::byte> buffer) {
  const auto bytes = std::as_writable_bytes(values);
  const auto count = static_cast<std::int64_t>(values.size());
  if (operation == "all_gather") {
    return executor::ring_all_gather(transport, bytes,
                                     static_cast<std::int64_t>(bytes.size()) / transport.ranks());
  }
  executor::ring_reduce_scatter(
      transport, {.whole = bytes,
                  .result = shard.data(),
                  .ring = program::ring_buffers(count, DType::kF32, transport.ranks()),
                  .buffer = buffer});
}

}  // namespace

int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape)
  if (argc != 4) {
    std::fputs("usage: ring_bench RANK RANKS PORT\n", stderr);
    return 2;
  }
  executor::Membership membership{.rank = std::stoi(argv[1]),
                                  .ranks = std::stoi(argv[2]),
                                  .port = static_cast<std::uint16_t>(std::stoi(argv[3])),
                                  .table_rank = 0};
  if (membership.rank == 0) {
    membership.listening = need(tools::bind_socket(membership.address, membership.port)).descriptor;
  }
  const auto group = need(executor::ProcessGroup::join(membership, "bench", nullptr));
  std::string operation;
  for (std::int64_t elements = 0; std::cin >> operation >> elements;) {
    std::vector<float> values(static_cast<std::size_t>(elements), 1.0F);
    const auto ring = program::ring_buffers(elements, DType::kF32, membership.ranks);
    std::vector<std::byte> shard(static_cast<std::size_t>(ring.part) * sizeof(float));
    std::vector<std::byte> buffer(static_cast<std::size_t>(ring.total().value));
    if (!group->meet()) return 1;
    const auto began = std::chrono::steady_clock::now();
    run(group->transport(), operation, values, shard, buffer);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
    std::printf("%.6f\n", seconds.count());
    std::fflush(stdout);
  }
  group->leave();
  return 0;
}

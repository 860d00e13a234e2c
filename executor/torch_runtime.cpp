#include "executor/torch_runtime.h"

#include <ATen/Parallel.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/version.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/units.h"
#include "executor/scratch.h"

namespace ftplan::executor {
namespace {

thread_local Scratch* current_scratch = nullptr;
thread_local bool allocation_forbidden = false;

std::atomic<std::int64_t> outside{0};
std::atomic<std::int64_t> outside_most{0};

// Blocks from elsewhere carry their size in front of them.
constexpr std::size_t kHeader = 64;

void give_back(void* block) {
  if (block == nullptr) return;
  if (current_scratch != nullptr && current_scratch->give_back(block)) return;
  auto* begin = static_cast<std::byte*>(block) - kHeader;
  outside -= *reinterpret_cast<std::int64_t*>(begin);
  c10::free_cpu(begin);
}

class ScratchAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t size) override {
    if (size == 0) return {nullptr, nullptr, &give_back, c10::kCPU};
    void* block = nullptr;
    if (current_scratch != nullptr) {
      block = current_scratch->take(static_cast<std::int64_t>(size));
    } else {
      block = take_elsewhere(size);
    }
    return {block, block, &give_back, c10::kCPU};
  }
  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, std::size_t size) const override {
    default_copy_data(to, from, size);
  }

 private:
  static void* take_elsewhere(std::size_t size) {
    if (allocation_forbidden) {
      throw ScratchExceeded("an operation outside the program", Bytes{},
                            Bytes{static_cast<std::int64_t>(size)});
    }
    auto* begin = static_cast<std::byte*>(c10::alloc_cpu(size + kHeader));
    *reinterpret_cast<std::int64_t*>(begin) = static_cast<std::int64_t>(size);
    const std::int64_t now = outside += static_cast<std::int64_t>(size);
    std::int64_t most = outside_most;
    while (now > most && !outside_most.compare_exchange_weak(most, now)) {
    }
    return begin + kHeader;
  }
};

}  // namespace

void install_allocator() {
  static ScratchAllocator allocator;
  constexpr std::uint8_t kHighestPriority = 255;
  if (c10::GetCPUAllocator() != &allocator) c10::SetCPUAllocator(&allocator, kHighestPriority);
}

Bytes outside_bytes() { return Bytes{outside}; }
Bytes outside_peak() { return Bytes{outside_most}; }
void reset_outside_peak() { outside_most = outside.load(); }

ScratchScope::ScratchScope(Scratch& scratch) : before_(current_scratch) {
  current_scratch = &scratch;
}
ScratchScope::~ScratchScope() { current_scratch = before_; }

NoAllocation::NoAllocation() : before_(allocation_forbidden) { allocation_forbidden = true; }
NoAllocation::~NoAllocation() { allocation_forbidden = before_; }

void set_threads(int threads) {
  if (at::get_num_threads() != threads) at::set_num_threads(threads);
}

std::string torch_version() { return TORCH_VERSION; }

}  // namespace ftplan::executor

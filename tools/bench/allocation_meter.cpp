// Takes the place of LibTorch's CPU allocator in the process that loads it, and counts the bytes
// that are asked for. Called through ctypes. MKL's and oneDNN's own buffers are not seen, on either
// side of the comparison.

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace {

std::atomic<std::int64_t> now{0};
std::atomic<std::int64_t> most{0};

// Blocks carry their size in front of them.
constexpr std::size_t kHeader = 64;

void give_back(void* block) {
  if (block == nullptr) return;
  auto* begin = static_cast<std::byte*>(block) - kHeader;
  now -= *reinterpret_cast<std::int64_t*>(begin);
  c10::free_cpu(begin);
}

class Meter final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t size) override {
    if (size == 0) return {nullptr, nullptr, &give_back, c10::kCPU};
    auto* begin = static_cast<std::byte*>(c10::alloc_cpu(size + kHeader));
    *reinterpret_cast<std::int64_t*>(begin) = static_cast<std::int64_t>(size);
    const std::int64_t held = now += static_cast<std::int64_t>(size);
    std::int64_t before = most;
    while (held > before && !most.compare_exchange_weak(before, held)) {
    }
    void* block = begin + kHeader;
    return {block, block, &give_back, c10::kCPU};
  }
  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, std::size_t size) const override {
    default_copy_data(to, from, size);
  }
};

}  // namespace

extern "C" {

/// Before the process makes tensors.
void meter_install() {
  static Meter meter;
  constexpr std::uint8_t kHighestPriority = 255;
  c10::SetCPUAllocator(&meter, kHighestPriority);
}
std::int64_t meter_peak() { return most; }
void meter_reset() { most = now.load(); }
}

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/enums.h"
#include "core/fields.h"
#include "core/method.h"
#include "core/units.h"

namespace ftplan {

enum class Backend : std::uint8_t { kCpu, kCuda };
template <>
inline constexpr auto names<Backend> =
    std::array{Name{Backend::kCpu, "cpu"}, Name{Backend::kCuda, "cuda"}};

/// Scratch that one operation was measured to need. `operation` is the key that `scratch_key`
/// makes.
struct MeasuredScratch {
  std::string operation;
  Bytes bytes;
  friend bool operator==(const MeasuredScratch&, const MeasuredScratch&) = default;
};
template <>
inline constexpr auto fields<MeasuredScratch> = std::tuple{
    Field{"operation", &MeasuredScratch::operation, "Operation, shapes, layouts and types."},
    Field{"bytes", &MeasuredScratch::bytes, "bytes", Range{0, 1e18}, "Scratch it needs."}};

/// What is known or was measured of one device and the process on it.
struct Machine {
  std::string name = "cpu";
  Backend backend = Backend::kCpu;
  std::optional<Bytes>
      device_memory;                 ///< usable, after what other processes hold; empty: not known
  std::optional<Bytes> host_memory;  ///< usable of a host; on `cpu` device and host share it
  std::optional<Bytes> disk;         ///< that the run's files may take on each host
  std::int64_t threads = 1;
  std::string instruction_set;  ///< "avx2" or "avx512"; empty for GPUs
  std::string torch;            ///< version of LibTorch; empty where there is none
  Bytes runtime;                ///< what libraries and contexts hold on the device
  double runtime_interval = 0;  ///< half-width of `runtime` as a share of it, when it is a formula
  bool native_bf16 = true;      ///< fp16 products are widened to f32 on every CPU
  std::vector<MeasuredScratch> scratch;  ///< sorted by `operation`

  friend bool operator==(const Machine&, const Machine&) = default;
};

template <>
inline constexpr auto fields<Machine> = std::tuple{
    Field{"name", &Machine::name, "Name in the catalogue."},
    Field{"backend", &Machine::backend, "Which kernels run."},
    Field{"device_memory", &Machine::device_memory, "Usable bytes of the device."},
    Field{"host_memory", &Machine::host_memory, "Usable bytes of the host."},
    Field{"disk", &Machine::disk, "Usable bytes of the host's disk."},
    Field{"threads", &Machine::threads, "threads", Range{1, 4096}, "Threads of one operation."},
    Field{"instruction_set", &Machine::instruction_set, "Vector instructions of the kernels."},
    Field{"torch", &Machine::torch, "Version of LibTorch."},
    Field{"runtime", &Machine::runtime, "Bytes that libraries and contexts hold."},
    Field{"runtime_interval", &Machine::runtime_interval, "", Range{0, 10},
          "Half-width of runtime as a share."},
    Field{"native_bf16", &Machine::native_bf16,
          "The device has units for bf16; a CPU without them widens to f32."},
    Field{"scratch", &Machine::scratch, "Measured scratch of operations."}};

/// Of a run that leaves the choice: a GPU without units for bf16 emulates it slowly.
constexpr Precision default_precision(const Machine& machine) {
  const bool emulates = machine.backend == Backend::kCuda && !machine.native_bf16;
  return emulates ? Precision::kFp16 : Precision::kBf16;
}

/// Digest of what kernels and their scratch depend on: backend, threads, instructions and LibTorch.
/// Free memory and what was measured may change without making a plan wrong.
std::string machine_digest(const Machine& machine);

}  // namespace ftplan

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/devices.h"
#include "core/fields.h"
#include "core/machine.h"
#include "core/result.h"
#include "core/units.h"

/// GPUs that ftplan knows without having them: `configs/hardware/*.json`, inside the binary.
namespace ftplan::estimator {

struct Hardware {
  std::string name;     ///< what `--gpus` takes: `T4`
  Bytes memory_bytes;   ///< usable, as the driver reports it
  std::string sold_as;  ///< what its maker calls that: `16 GB`
  bool native_bf16 = true;
  Bytes runtime_bytes;          ///< CUDA context and loaded modules
  double runtime_interval = 0;  ///< half-width of it, as a share
  std::vector<std::string> sources;
};

/// All entries, in the order of their names.
const std::vector<Hardware>& hardware();

/// Null when no entry has this name.
const Hardware* find_hardware(std::string_view name);

/// Reads one file of `configs/hardware/`.
Result<Hardware> read_hardware(std::string_view json_text, const std::string& where);

/// The machine of one device of `layout`: `host` where its name is `cpu`, else the catalogue's
/// entry. `options` override the memory. Ranks of one host share its memory equally.
/// @error bad input: a device that is not in the catalogue, with the nearest that is; memories that
/// differ or do not match
///        the number of devices
Result<Machine> machine_of(const DeviceLayout& layout, const DeviceOptions& options,
                           const Machine& host);

}  // namespace ftplan::estimator

namespace ftplan {

template <>
inline constexpr auto fields<estimator::Hardware> =
    std::tuple{Field{"name", &estimator::Hardware::name, "What --gpus takes."},
               Field{"memory_bytes", &estimator::Hardware::memory_bytes, "bytes", Range{1, 1e15},
                     "Usable memory."},
               Field{"sold_as", &estimator::Hardware::sold_as, "What its maker calls that."},
               Field{"native_bf16", &estimator::Hardware::native_bf16, "It computes in bf16."},
               Field{"runtime_bytes", &estimator::Hardware::runtime_bytes, "bytes", Range{0, 1e12},
                     "CUDA context."},
               Field{"runtime_interval", &estimator::Hardware::runtime_interval, "", Range{0, 10},
                     "Half-width of it."},
               Field{"sources", &estimator::Hardware::sources, "Where the numbers are from."}};

}  // namespace ftplan

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/devices.h"
#include "core/machine.h"
#include "core/result.h"
#include "core/units.h"
#include "estimator/hardware.h"

/// From what `--gpus` says to devices and what they have.
namespace ftplan::estimator {

/// `asked` with every name resolved: a node becomes its devices, and its host memory and disk are
/// what was not given; a device gets its first name.
struct NamedDevices {
  DeviceOptions options;       ///< `gpus` is a text that `parse_devices` reads
  const Node* node = nullptr;  ///< that was named; null: devices were
};

/// `cpu` stays as it is; `this` is no name of the catalogue.
/// @error bad input: a name that is not in the catalogue, with the nearest that is; a node with two
/// counts
Result<NamedDevices> name_devices(const DeviceOptions& asked);

/// The machine of one device of `layout`: `host` where its name is `cpu`, else the catalogue's
/// entry. `options` override the memory; of memories that differ it is the smallest. Ranks of one
/// host share a CPU's memory equally.
/// @error bad input: a device that is not in the catalogue; memories that do not match the number
/// of devices
Result<Machine> machine_of(const DeviceLayout& layout, const DeviceOptions& options,
                           const Machine& host);

/// What `rank`'s device has: its own of `options.memory`, else the machine's. Empty: not known.
std::optional<Bytes> memory_of_rank(const Machine& machine, const DeviceOptions& options,
                                    std::int64_t rank);

/// What a device cannot do well, in sentences for the user. @param precision of the job
/// @param scores bytes of one layer's attention scores in 16 bits
std::vector<std::string> device_notes(const Hardware& device, Precision precision, Bytes scores);

}  // namespace ftplan::estimator

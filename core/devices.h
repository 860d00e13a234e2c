#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/fields.h"
#include "core/result.h"

namespace ftplan {

/// What the run may use, as asked for.
struct DeviceOptions {
  std::string gpus = "cpu";
  std::vector<double> memory;
  std::optional<double> host_memory;
  std::optional<double> disk;

  friend bool operator==(const DeviceOptions&, const DeviceOptions&) = default;
};

template <>
inline constexpr auto fields<DeviceOptions> = std::tuple{
    Field{"gpus", &DeviceOptions::gpus,
          "Devices: cpu, T4, 8xT4, 2x8xA100-80GB (nodes x devices), a node such as g4dn.metal or "
          "3xg4dn.metal, or this: what this machine has."},
    Field{"memory", &DeviceOptions::memory, "GiB", Range{0.001, 1e6},
          "Usable memory of each device, instead of the catalogue's: one number, or one each."},
    Field{"host_memory", &DeviceOptions::host_memory, "GiB", Range{0.001, 1e6},
          "Usable memory of each host."},
    Field{"disk", &DeviceOptions::disk, "GiB", Range{0.001, 1e7}, "Usable disk of each host."}};

/// `2x8xA100-80GB` taken apart.
struct DeviceLayout {
  std::string name = "cpu";
  std::int64_t nodes = 1;
  std::int64_t per_node = 1;

  [[nodiscard]] std::int64_t count() const { return nodes * per_node; }
  friend bool operator==(const DeviceLayout&, const DeviceLayout&) = default;
};

/// Takes `NAME`, `COUNTxNAME` or `NODESxCOUNTxNAME` apart.
/// @error bad input when a count is not a number of 1..65536 or the name is empty
Result<DeviceLayout> parse_devices(const std::string& text);

/// The shortest text that `parse_devices` reads as `layout`.
std::string to_text(const DeviceLayout& layout);

}  // namespace ftplan

#include "estimator/devices.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/devices.h"
#include "core/machine.h"
#include "core/method.h"
#include "core/result.h"
#include "core/text.h"
#include "core/units.h"
#include "estimator/hardware.h"

namespace ftplan::estimator {
namespace {

Bytes from_gib(double gib) { return {std::llround(gib * static_cast<double>(kGiB.value))}; }
double to_gib(Bytes bytes) {
  return static_cast<double>(bytes.value) / static_cast<double>(kGiB.value);
}

// The smallest that --memory says; empty when it says nothing.
Result<std::optional<Bytes>> memory_option(const DeviceLayout& layout,
                                           const std::vector<double>& memory) {
  if (memory.empty()) return std::optional<Bytes>{};
  const auto count = static_cast<std::int64_t>(memory.size());
  if (count != 1 && count != layout.count()) {
    return bad_input("--memory", "got " + std::to_string(count) + " numbers for " +
                                     std::to_string(layout.count()) +
                                     " devices, expected one, or one for each");
  }
  return std::optional<Bytes>{from_gib(*std::min_element(memory.begin(), memory.end()))};
}

Error unknown_device(const std::string& name) {
  const std::string nearest = nearest_known(name, catalogue_names());
  return bad_input("--gpus", "got \"" + name + "\", which is not in the catalogue; did you mean " +
                                 nearest + "? (ftplan hardware lists all)");
}

Machine machine_of_entry(const Hardware& entry) {
  Machine machine{
      .name = entry.name, .backend = Backend::kCuda, .device_memory = entry.memory_bytes};
  machine.runtime = entry.runtime_bytes;
  machine.runtime_interval = entry.runtime_interval;
  machine.native_bf16 = entry.native_bf16;
  return machine;
}

// Of a node only the number of nodes is the user's to give.
Result<DeviceLayout> layout_of(const Node& node, const DeviceLayout& asked) {
  if (asked.nodes > 1) {
    return bad_input("--gpus", "got two counts, but " + node.name + " is a node of " +
                                   std::to_string(node.devices) + " x " + node.device +
                                   ": expected " + std::to_string(asked.nodes) + "x" + node.name);
  }
  return DeviceLayout{.name = node.device, .nodes = asked.per_node, .per_node = node.devices};
}

}  // namespace

Result<NamedDevices> name_devices(const DeviceOptions& asked) {
  const auto layout = parse_devices(asked.gpus);
  if (!layout) return layout.error();
  NamedDevices named{.options = asked};
  if (layout->name == "cpu") return named;
  if (const Hardware* device = find_hardware(layout->name)) {
    if (device->name != layout->name) {
      named.options.gpus =
          to_text({.name = device->name, .nodes = layout->nodes, .per_node = layout->per_node});
    }
    return named;
  }
  named.node = find_node(layout->name);
  if (named.node == nullptr) return unknown_device(layout->name);
  const auto devices = layout_of(*named.node, *layout);
  if (!devices) return devices.error();
  named.options.gpus = to_text(*devices);
  if (!asked.host_memory && named.node->host_memory_bytes)
    named.options.host_memory = to_gib(*named.node->host_memory_bytes);
  if (!asked.disk && named.node->disk_bytes) named.options.disk = to_gib(*named.node->disk_bytes);
  return named;
}

Result<Machine> machine_of(const DeviceLayout& layout, const DeviceOptions& options,
                           const Machine& host) {
  const auto memory = memory_option(layout, options.memory);
  if (!memory) return memory.error();
  const bool cpu = layout.name == "cpu";
  const Hardware* entry = cpu ? nullptr : find_hardware(layout.name);
  if (!cpu && entry == nullptr) return unknown_device(layout.name);
  Machine machine = cpu ? host : machine_of_entry(*entry);
  if (options.host_memory) machine.host_memory = from_gib(*options.host_memory);
  if (options.disk) machine.disk = from_gib(*options.disk);
  if (cpu && machine.host_memory)
    machine.host_memory = Bytes{machine.host_memory->value / layout.per_node};
  if (cpu) machine.device_memory = machine.host_memory;
  if (*memory) machine.device_memory = *memory;
  return machine;
}

std::optional<Bytes> memory_of_rank(const Machine& machine, const DeviceOptions& options,
                                    std::int64_t rank) {
  const auto index = static_cast<std::size_t>(rank);
  if (options.memory.size() > 1 && index < options.memory.size())
    return from_gib(options.memory[index]);
  return machine.device_memory;
}

std::vector<std::string> device_notes(const Hardware& device, Precision precision, Bytes scores) {
  std::vector<std::string> notes;
  const std::string capability =
      device.compute_capability ? " (compute capability " + *device.compute_capability + ")" : "";
  if (precision == Precision::kBf16 && !device.native_bf16) {
    notes.push_back(device.name + " has no bf16 units: bf16 is emulated there, slowly; use " +
                    "--precision fp16");
  }
  if (device.attention == AttentionKernel::kMemoryEfficient) {
    notes.push_back(device.name + " has no flash attention 2" + capability +
                    ": its memory-efficient attention is taken, which holds no S x S scores " +
                    "either; written out they would be " + format_bytes(scores) +
                    " a layer in 16 bit");
  }
  if (device.attention == AttentionKernel::kEager) {
    notes.push_back(device.name + " has no fused attention: its S x S scores come on top, " +
                    format_bytes(scores) + " a layer in 16 bit, more where they are kept");
  }
  if (device.platform != Platform::kCuda) {
    notes.push_back(device.name +
                    " runs other kernels than CUDA's, whose bytes are counted here: " +
                    "nobody has compared the two");
  }
  if (device.platform == Platform::kTpu || device.platform == Platform::kNeuron) {
    notes.push_back("bitsandbytes does not run on " + device.name +
                    ": of what is quantized only the bytes are told");
  }
  return notes;
}

}  // namespace ftplan::estimator

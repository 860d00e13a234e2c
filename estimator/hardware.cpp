#include "estimator/hardware.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/devices.h"
#include "core/json.h"
#include "core/machine.h"
#include "core/result.h"
#include "core/text.h"
#include "core/units.h"
#include "estimator/hardware_files.h"

namespace ftplan::estimator {
namespace {

std::vector<Hardware> read_all() {
  std::vector<Hardware> all;
  for (const EmbeddedFile& file : hardware_files()) {
    auto entry = read_hardware(file.text, std::string(file.name));
    FTPLAN_CHECK(entry.ok() && entry->name == file.name);
    all.push_back(*std::move(entry));
  }
  return all;
}

Bytes from_gib(double gib) { return {std::llround(gib * static_cast<double>(kGiB.value))}; }

// What --memory says of each device; empty when it says nothing.
Result<std::optional<Bytes>> memory_option(const DeviceLayout& layout,
                                           const std::vector<double>& memory) {
  if (memory.empty()) return std::optional<Bytes>{};
  const auto count = static_cast<std::int64_t>(memory.size());
  if (count != 1 && count != layout.count()) {
    return bad_input("--memory", "got " + std::to_string(count) + " numbers for " +
                                     std::to_string(layout.count()) +
                                     " devices, expected one, or one for each");
  }
  for (const double gib : memory) {
    if (gib != memory.front()) {
      return bad_input("--memory",
                       "devices that differ are not built yet: give the memory of the smallest");
    }
  }
  return std::optional<Bytes>{from_gib(memory.front())};
}

std::size_t common_part(const std::string& a, const std::string& b) {
  std::size_t longest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t length = longest + 1; i + length <= a.size(); ++length) {
      if (b.find(a.substr(i, length)) == std::string::npos) break;
      longest = length;
    }
  }
  return longest;
}

// The entry that shares the longest part of its name (`H100` and `A100-80GB`), else the nearest in
// spelling.
std::string suggestion(const std::string& name, const std::vector<std::string>& known) {
  std::size_t most = 1;  // one letter says nothing
  std::string best = nearest(name, known);
  for (const std::string& entry : known) {
    const std::size_t part = common_part(name, entry);
    if (part <= most) continue;
    most = part;
    best = entry;
  }
  return best;
}

Error unknown_device(const std::string& name) {
  std::vector<std::string> known = {"cpu"};
  for (const Hardware& entry : hardware()) known.push_back(entry.name);
  return bad_input("--gpus", "got \"" + name + "\", known are " + join(known, ", ") +
                                 "; did you mean " + suggestion(name, known) + "?");
}

Machine machine_of_entry(const Hardware& entry) {
  Machine machine{
      .name = entry.name, .backend = Backend::kCuda, .device_memory = entry.memory_bytes};
  machine.runtime = entry.runtime_bytes;
  machine.runtime_interval = entry.runtime_interval;
  machine.native_bf16 = entry.native_bf16;
  return machine;
}

}  // namespace

Result<Hardware> read_hardware(std::string_view json_text, const std::string& where) {
  const auto json = parse_json(json_text, where);
  if (!json) return json.error();
  auto entry = from_json<Hardware>(*json, where, Missing::kIsAnError);
  if (entry.ok() && entry->sources.empty()) {
    return bad_input(json_detail::child(where, "sources"),
                     "got none, expected where the numbers are from");
  }
  return entry;
}

const std::vector<Hardware>& hardware() {
  static const std::vector<Hardware> kHardware = read_all();
  return kHardware;
}

const Hardware* find_hardware(std::string_view name) {
  for (const Hardware& entry : hardware()) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
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
  if (machine.host_memory)
    machine.host_memory = Bytes{machine.host_memory->value / layout.per_node};
  if (cpu) machine.device_memory = machine.host_memory;
  if (*memory) machine.device_memory = *memory;
  return machine;
}

}  // namespace ftplan::estimator

#include "tools/host.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "core/machine.h"
#include "core/result.h"
#include "core/text.h"
#include "core/units.h"
#include "tools/version.h"

namespace ftplan::tools {
namespace {

// What a worker holds beside its arena, until it is measured: 261 MiB of anonymous memory after
// loading libtorch_cpu 2.11, then thread stacks, tokenized rows and file buffers.
constexpr Bytes kProcessBytes{384 * kMiB.value};

std::optional<std::string> read_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::optional<std::int64_t> read_number(std::string_view text) {
  std::int64_t number = 0;
  const auto begin = text.find_first_of("0123456789");
  if (begin != 0) return std::nullopt;  // "max" is no limit
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  return number;
}

std::optional<std::int64_t> read_number_file(const std::string& path) {
  const auto text = read_file(path);
  return text ? read_number(*text) : std::nullopt;
}

// The number after `key` at the start of a line.
std::optional<std::int64_t> read_entry(const std::optional<std::string>& text,
                                       std::string_view key) {
  if (!text) return std::nullopt;
  for (const std::string& line : split(*text, '\n')) {
    if (!line.starts_with(key)) continue;
    const std::size_t digit = line.find_first_of("0123456789", key.size());
    if (digit != std::string::npos) return read_number(std::string_view(line).substr(digit));
  }
  return std::nullopt;
}

struct Group {
  std::string mount;  ///< folder of the hierarchy
  std::string path;   ///< of this process in it
  bool v2 = false;
};

// The groups of this process that can limit `controller`.
std::vector<Group> groups_of(const std::string& root, const std::string& controller) {
  std::vector<Group> groups;
  for (const std::string& line : split(read_file(root + "/proc/self/cgroup").value_or(""), '\n')) {
    const std::vector<std::string> parts = split(line, ':');
    if (parts.size() < 3) continue;
    const std::string base = root + "/sys/fs/cgroup";
    if (parts[1].empty()) {
      groups.push_back({base, parts[2], true});
      groups.push_back({base + "/unified", parts[2], true});
    }
    for (const std::string& name : split(parts[1], ',')) {
      if (name == controller) groups.push_back({base + "/" + controller, parts[2], false});
    }
  }
  return groups;
}

// Folders of a group and of all above it. In a container the path may not exist; its own group is
// then the mount.
std::vector<std::string> folders_of(const Group& group) {
  std::vector<std::string> folders = {group.mount};
  std::string path;
  for (const std::string& part : split(group.path, '/')) {
    if (part.empty()) continue;
    path += "/" + part;
    folders.push_back(group.mount + path);
  }
  return folders;
}

std::optional<Bytes> left_in(const std::string& folder, bool v2) {
  const auto limit = read_number_file(folder + (v2 ? "/memory.max" : "/memory.limit_in_bytes"));
  const auto used = read_number_file(folder + (v2 ? "/memory.current" : "/memory.usage_in_bytes"));
  if (!limit || !used) return std::nullopt;
  const auto cache = read_entry(read_file(folder + "/memory.stat"),
                                v2 ? "inactive_file " : "total_inactive_file ");
  return Bytes{std::max<std::int64_t>(0, *limit - *used + cache.value_or(0))};
}

// CPUs that the quota of a group amounts to.
std::optional<double> quota_of(const std::string& folder, bool v2) {
  std::optional<std::int64_t> quota;
  std::optional<std::int64_t> period;
  if (v2) {
    const auto parts = split(read_file(folder + "/cpu.max").value_or(""), ' ');
    if (parts.size() == 2) {
      quota = read_number(parts[0]);
      period = read_number(parts[1]);
    }
  } else {
    quota = read_number_file(folder + "/cpu.cfs_quota_us");
    period = read_number_file(folder + "/cpu.cfs_period_us");
  }
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

std::int64_t affinity_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

}  // namespace

std::optional<Bytes> available_memory(const std::string& root) {
  std::optional<Bytes> least;
  if (const auto kib = read_entry(read_file(root + "/proc/meminfo"), "MemAvailable:"))
    least = *kib * kKiB;
  for (const Group& group : groups_of(root, "memory")) {
    for (const std::string& folder : folders_of(group)) {
      const auto left = left_in(folder, group.v2);
      if (left && (!least || *left < *least)) least = left;
    }
  }
  return least;
}

std::int64_t usable_cpus(const std::string& root) {
  std::int64_t cpus = affinity_cpus();
  for (const Group& group : groups_of(root, "cpu")) {
    for (const std::string& folder : folders_of(group)) {
      if (const auto quota = quota_of(folder, group.v2)) {
        cpus = std::min(cpus, std::max<std::int64_t>(1, std::llround(std::ceil(*quota))));
      }
    }
  }
  return cpus;
}

std::string instruction_set() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512) return "avx512";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
  return "";
}

Result<std::vector<std::string>> gpu_names(const std::string& root) {
  namespace fs = std::filesystem;
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root + "/proc/driver/nvidia/gpus", error)) {
    const std::string text = read_file(entry.path().string() + "/information").value_or("");
    for (const std::string& line : split(text, '\n')) {
      constexpr std::string_view kModel = "Model:";
      if (!line.starts_with(kModel)) continue;
      const std::size_t begin = line.find_first_not_of(" \t", kModel.size());
      if (begin != std::string::npos) names.push_back(line.substr(begin));
    }
  }
  if (names.empty() && fs::exists(root + "/dev/nvidia0", error)) {
    return bad_input("--gpus",
                     "this machine has NVIDIA GPUs, but /proc/driver/nvidia does not tell which: "
                     "name them, such as 8xT4");
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Whether products of 16-bit factors have units of their own.
bool has_bf16_units() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16");
#else
  return false;
#endif
}

Machine probe_host(std::int64_t ranks) {
  Machine machine;
  machine.native_bf16 = has_bf16_units();
  machine.threads = std::max<std::int64_t>(1, usable_cpus() / ranks);
  machine.instruction_set = instruction_set();
  machine.torch = kTorchVersion;
  if (const auto available = available_memory()) {
    machine.host_memory = std::max(Bytes{}, *available - ranks * kProcessBytes);
    machine.device_memory = machine.host_memory;
  }
  return machine;
}

}  // namespace ftplan::tools

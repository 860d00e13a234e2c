#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/machine.h"
#include "core/result.h"
#include "core/units.h"

/// What this host is and has, read from the system.
namespace ftplan::tools {

/// Memory that a new process may take: what the kernel calls available, and what the limits of the
/// control groups (v1 and v2, and those above them) leave. Page cache counts as free. Empty where
/// the system does not tell.
/// @param root folder that holds `proc` and `sys`; empty for the system's own
std::optional<Bytes> available_memory(const std::string& root = "");

/// CPUs that this process may use: its affinity, and the quota of its control groups rounded up.
std::int64_t usable_cpus(const std::string& root = "");

/// "avx512", "avx2", or empty: the best kernels that this processor runs.
std::string instruction_set();

/// Names of the NVIDIA GPUs that this process sees, as their driver spells them; empty where there
/// are none.
/// @error bad input: there are some, but the driver does not tell their names
Result<std::vector<std::string>> gpu_names(const std::string& root = "");

/// The `cpu` machine of one of the `ranks` of this host, without measured scratch: processors are
/// divided among them. `host_memory` is that of all, without what their processes hold beside their
/// arenas.
Machine probe_host(std::int64_t ranks = 1);

}  // namespace ftplan::tools

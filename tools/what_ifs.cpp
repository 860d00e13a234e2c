#include "tools/what_ifs.h"

#include <cstdint>
#include <vector>

#include "core/devices.h"
#include "core/machine.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/units.h"
#include "core/what_if.h"
#include "planner/explain.h"
#include "tools/host.h"

namespace ftplan::tools {

Result<std::vector<WhatIf>> what_ifs_here(Plan plan) {
  const bool here = plan.machine.backend == Backend::kCpu && !plan.machine.device_memory;
  const auto devices = parse_devices(plan.job.devices.gpus);
  if (here && devices) {
    const std::int64_t ranks = devices->per_node;
    const auto of_all = probe_host(ranks).device_memory;
    if (of_all) plan.machine.device_memory = Bytes{of_all->value / ranks};
  }
  return planner::what_ifs(plan);
}

}  // namespace ftplan::tools

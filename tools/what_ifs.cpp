#include "tools/what_ifs.h"

#include <vector>

#include "core/machine.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/what_if.h"
#include "planner/explain.h"
#include "tools/host.h"

namespace ftplan::tools {

Result<std::vector<WhatIf>> what_ifs_here(Plan plan) {
  const bool here = plan.machine.backend == Backend::kCpu && !plan.machine.device_memory;
  if (here) plan.machine.device_memory = probe_host().device_memory;
  return planner::what_ifs(plan);
}

}  // namespace ftplan::tools

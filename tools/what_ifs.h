#pragma once

#include <vector>

#include "core/plan.h"
#include "core/result.h"
#include "core/what_if.h"

namespace ftplan::tools {

/// What other choices would change. A plan for this host does not keep what was free when it was
/// made: the choices are held against what is free now.
Result<std::vector<WhatIf>> what_ifs_here(Plan plan);

}  // namespace ftplan::tools

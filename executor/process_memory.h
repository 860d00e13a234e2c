#pragma once

#include "core/units.h"

namespace ftplan::executor {

/// Bytes of this process that are in memory now, pages of mapped files left out.
Bytes resident_bytes();

}  // namespace ftplan::executor

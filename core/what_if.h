#pragma once

#include <string>

#include "core/plan.h"
#include "core/text.h"
#include "core/units.h"

namespace ftplan {

/// A plan with one knob turned.
struct WhatIf {
  std::string flags;  ///< `--micro-batch 8`
  std::string note;   ///< what it costs besides bytes; may be empty
  Bytes peak;         ///< of the device
  Bytes difference;   ///< to the plan's peak
  Fits fits = Fits::kUnknown;
};

/// `+1.50 GiB`, `-3 KiB`.
inline std::string signed_bytes(Bytes bytes) {
  return bytes < Bytes{} ? "-" + format_bytes(Bytes{} - bytes) : "+" + format_bytes(bytes);
}

}  // namespace ftplan

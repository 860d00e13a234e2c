#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/category.h"
#include "core/fields.h"

namespace ftplan {

/// The state of memory while one instruction runs.
struct Instant {
  std::string phase;      ///< forward, backward, optimizer ...
  std::string operation;  ///< name of the op
  std::int64_t micro_step = 0;
  std::int64_t layer = -1;  ///< -1 outside the layers
  PlaceBytes device;
  friend bool operator==(const Instant&, const Instant&) = default;
};

template <>
inline constexpr auto fields<Instant> =
    std::tuple{Field{"phase", &Instant::phase, "Part of the step."},
               Field{"operation", &Instant::operation, "What runs."},
               Field{"micro_step", &Instant::micro_step, "", Range{0, 1e9}, "Micro-step."},
               Field{"layer", &Instant::layer, "", Range{-1, 1e9}, "Decoder layer, -1 outside."},
               Field{"device", &Instant::device, "Device bytes by category."}};

/// Memory over one optimizer step of one rank, an entry per instruction.
struct Timeline {
  std::int64_t rank = 0;
  std::vector<Instant> instants;
  std::int64_t peak = 0;  ///< index of the instant with most bytes
};

template <>
inline constexpr auto fields<Timeline> =
    std::tuple{Field{"rank", &Timeline::rank, "", Range{0, 1e9}, "Rank."},
               Field{"instants", &Timeline::instants, "One per instruction."},
               Field{"peak", &Timeline::peak, "", Range{0, 1e12}, "Index of the largest instant."}};

}  // namespace ftplan

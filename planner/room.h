#pragma once

#include <cstdint>
#include <optional>

#include "core/result.h"
#include "core/units.h"
#include "planner/search.h"

/// What a choice that fits leaves free.
namespace ftplan::planner {

/// A larger value of one knob, and what it needs of a device.
struct Growth {
  std::int64_t value = 0;
  Bytes need;
};

struct Room {
  std::optional<Growth> micro_batch;  ///< sequences in a pass; empty: not even twice as many fit
  std::optional<Growth> sequence;     ///< tokens in a row
  std::optional<Bytes>
      kept;  ///< need where nothing is recomputed; empty: it does not fit, or is so
};

/// The largest power of two by which batch or rows may grow alone.
/// @pre the data is not known, and `chosen` fits
Result<Room> room_left(const Setting& setting, const Evaluation& chosen);

struct FewestDevices {
  std::int64_t devices = 0;
  Evaluation evaluation;
};

/// The smallest power of two of devices of this kind from `first` to `last`, on whole nodes, on
/// which the job fits with the recomputation of `like` and the least sharding that does. Empty:
/// there is none.
/// @complexity the logarithm of the number of powers
Result<std::optional<FewestDevices>> fewest_devices(const Setting& setting, const Strategy& like,
                                                    std::int64_t first, std::int64_t last);

}  // namespace ftplan::planner

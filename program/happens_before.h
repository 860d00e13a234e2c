#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "program/step_program.h"
#include "program/walk.h"

namespace ftplan::program {

/// The order that streams and events guarantee between the steps of a walk.
///
/// A step follows the one before it on its stream, and all that had ended when an event it waits
/// for was signalled. An event that no step signalled guarantees nothing and holds nobody up.
class HappensBefore {
 public:
  HappensBefore(const StepProgram& program, const Walk& walk);

  /// Whether step `first` has ended before step `second` begins.
  [[nodiscard]] bool operator()(std::int32_t first, std::int32_t second) const {
    const auto stream = static_cast<std::size_t>(stream_[static_cast<std::size_t>(first)]);
    return clocks_[static_cast<std::size_t>(second)][stream] >= first;
  }

 private:
  using Clock = std::array<std::int32_t, kStreams>;  // last step of each stream that has ended
  std::vector<Clock> clocks_;
  std::vector<Stream> stream_;
};

/// What waits guarantee in some step and nothing before them did.
struct UsefulEvents {
  std::vector<std::uint8_t> waits;  ///< by instruction, bit i: its wait i does
  std::vector<bool> signals;        ///< by instruction: such a wait is for its signal
};
UsefulEvents useful_events(const StepProgram& program, const Walk& walk);

}  // namespace ftplan::program

#include "program/happens_before.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

#include "program/step_program.h"
#include "program/walk.h"

namespace ftplan::program {

HappensBefore::HappensBefore(const StepProgram& program, const Walk& walk) {
  Clock nothing;
  nothing.fill(-1);
  std::array<Clock, kStreams> now;  // what has ended when the next step of each stream begins
  now.fill(nothing);
  std::map<std::pair<EventId, std::int32_t>, Clock> signalled;  // by event and layer
  clocks_.reserve(walk.steps.size());
  for (std::size_t i = 0; i < walk.steps.size(); ++i) {
    const Step& step = walk.steps[i];
    const Instruction& instruction = program.instruction(step.instruction);
    Clock& clock = now[static_cast<std::size_t>(instruction.stream)];
    for (const EventUse& wait : instruction.waits) {
      const auto found = signalled.find({wait.event, step.layer + wait.shift});
      if (found == signalled.end()) continue;
      for (std::size_t s = 0; s < kStreams; ++s) clock[s] = std::max(clock[s], found->second[s]);
    }
    clocks_.push_back(clock);
    stream_.push_back(instruction.stream);
    clock[static_cast<std::size_t>(instruction.stream)] = static_cast<std::int32_t>(i);
    if (instruction.signals != kNone) signalled[{instruction.signals, step.layer}] = clock;
  }
}

}  // namespace ftplan::program

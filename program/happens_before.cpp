#include "program/happens_before.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "program/step_program.h"
#include "program/walk.h"

namespace ftplan::program {

namespace {

using Clock = std::array<std::int32_t, kStreams>;

// Follows what has ended on each stream, step by step.
class Clocks {
 public:
  Clocks(const StepProgram& program, const Walk& walk) : program_(program), walk_(walk) {
    for (Clock& clock : now_) clock.fill(-1);
  }

  // Calls `waited(instruction, wait, signaller)` for each wait that guarantees more than was known,
  // then `begins(clock)`, for each step.
  template <class Waited, class Begins>
  void run(const Waited& waited, const Begins& begins) {
    for (std::size_t i = 0; i < walk_.steps.size(); ++i) {
      const Step& step = walk_.steps[i];
      const Instruction& instruction = program_.instruction(step.instruction);
      Clock& clock = now_[static_cast<std::size_t>(instruction.stream)];
      for (int w = 0; w < instruction.waits.size(); ++w) {
        const EventUse wait = instruction.waits[w];
        const auto found = signalled_.find({wait.event, wait.layer(step.layer)});
        if (found != signalled_.end() && raise(clock, found->second.clock))
          waited(step.instruction, w, found->second.instruction);
      }
      begins(clock);
      clock[static_cast<std::size_t>(instruction.stream)] = static_cast<std::int32_t>(i);
      if (instruction.signals != kNone)
        signalled_[{instruction.signals, step.layer}] = {clock, step.instruction};
    }
  }

 private:
  static bool raise(Clock& clock, const Clock& to) {
    bool raised = false;
    for (std::size_t s = 0; s < kStreams; ++s) {
      raised |= to[s] > clock[s];
      clock[s] = std::max(clock[s], to[s]);
    }
    return raised;
  }

  const StepProgram& program_;
  const Walk& walk_;
  std::array<Clock, kStreams> now_{};  // what has ended when the stream's next step begins
  struct Signal {
    Clock clock;
    InstructionId instruction;
  };
  std::map<std::pair<EventId, std::int32_t>, Signal> signalled_;  // by event and layer
};

}  // namespace

HappensBefore::HappensBefore(const StepProgram& program, const Walk& walk) {
  clocks_.reserve(walk.steps.size());
  for (const Step& step : walk.steps)
    stream_.push_back(program.instruction(step.instruction).stream);
  Clocks(program, walk)
      .run([](InstructionId, int, InstructionId) {},
           [&](const Clock& clock) { clocks_.push_back(clock); });
}

UsefulEvents useful_events(const StepProgram& program, const Walk& walk) {
  UsefulEvents useful{.waits = std::vector<std::uint8_t>(program.instructions.size(), 0),
                      .signals = std::vector<bool>(program.instructions.size(), false)};
  Clocks(program, walk)
      .run(
          [&](InstructionId id, int wait, InstructionId signaller) {
            useful.waits[static_cast<std::size_t>(id)] |=
                static_cast<std::uint8_t>(1U << static_cast<unsigned>(wait));
            useful.signals[static_cast<std::size_t>(signaller)] = true;
          },
          [](const Clock&) {});
  return useful;
}

}  // namespace ftplan::program

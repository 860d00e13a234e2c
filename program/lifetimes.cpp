#include "program/lifetimes.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/units.h"
#include "program/step_program.h"
#include "program/walk.h"

namespace ftplan::program {

Spans spans_of(const StepProgram& program, const Walk& walk) {
  const auto count = static_cast<std::int32_t>(walk.steps.size());
  Spans spans;
  std::map<std::pair<EventId, std::int32_t>, std::int32_t> signalled;  // (event, layer) -> step
  std::array<std::vector<std::int32_t>, kStreams> unsettled;           // steps in order
  std::array<std::int32_t, kStreams> ready{};  // what a stream's last step could begin beside
  for (std::int32_t i = 0; i < count; ++i) {
    const Step& step = walk.steps[static_cast<std::size_t>(i)];
    const Instruction& instruction = program.instruction(step.instruction);
    const auto stream_of = [&](std::int32_t at) {
      return program.instruction(walk.steps[static_cast<std::size_t>(at)].instruction).stream;
    };
    const bool computes = instruction.stream == Stream::kCompute;
    std::int32_t& begin = ready[static_cast<std::size_t>(instruction.stream)];
    for (const EventUse& wait : instruction.waits) {
      const auto found = signalled.find({wait.event, wait.layer(step.compact)});
      if (found == signalled.end()) continue;
      const std::int32_t other = found->second;
      const Stream stream = stream_of(other);
      begin = std::max(begin, stream == Stream::kCompute
                                  ? other + 1
                                  : spans.begin[static_cast<std::size_t>(other)]);
      if (!computes || stream == Stream::kCompute) continue;
      // Streams keep their order: all that was issued before the signal has ended with it.
      auto& open = unsettled[static_cast<std::size_t>(stream)];
      while (!open.empty() && open.front() <= other) {
        spans.end[static_cast<std::size_t>(open.front())] = i;
        open.erase(open.begin());
      }
    }
    spans.begin.push_back(computes ? i : begin);
    spans.end.push_back(computes ? i : count - 1);
    if (!computes) unsettled[static_cast<std::size_t>(instruction.stream)].push_back(i);
    if (instruction.signals != kNone) signalled[{instruction.signals, step.compact}] = i;
  }
  return spans;
}

namespace {

class LifeFinder {
 public:
  LifeFinder(const StepProgram& program, const Walk& walk)
      : program_(program), walk_(walk), spans_(spans_of(program, walk)) {
    std::int32_t copies = 0;
    for (const Storage& storage : program.storages) {
      first_.push_back(copies);
      copies += storage.region == Region::kPersistent ? 0 : storage.copies.count;
    }
    open_.assign(static_cast<std::size_t>(copies), kNone);
  }

  std::vector<Life> run() {
    for (std::size_t i = 0; i < walk_.steps.size(); ++i) {
      const Step& step = walk_.steps[i];
      const Instruction& instruction = program_.instruction(step.instruction);
      for (const Operand& in : instruction.in) touch(in, step, i, false);
      for (const Operand& both : instruction.update) touch(both, step, i, false);
      for (int k = 0; k < instruction.out.size(); ++k) {
        const bool adds = ((instruction.accumulate >> k) & 1) != 0;
        const bool defines = !adds && !is_read(instruction, instruction.out[k]);
        touch(instruction.out[k], step, i, defines && is_whole(instruction, instruction.out[k]));
      }
    }
    // What another stream defines may live before what stands before it.
    std::stable_sort(lives_.begin(), lives_.end(),
                     [](const Life& a, const Life& b) { return a.begin < b.begin; });
    return std::move(lives_);
  }

 private:
  static bool is_read(const Instruction& instruction, Operand out) {
    for (const Operand& in : instruction.in) {
      if (in == out) return true;
    }
    return false;
  }

  // Whether the instruction makes the whole storage of `out`: at once, or in parts.
  [[nodiscard]] bool is_whole(const Instruction& instruction, Operand out) const {
    if (!out) return false;
    const Tensor& tensor = program_.tensor(out);
    const Storage& storage = program_.storages[static_cast<std::size_t>(tensor.storage)];
    if (tensor.extent() == storage.size) return true;
    for (const Operand& in : instruction.in) {
      if (in && program_.tensor(in).storage == tensor.storage) return false;
    }
    Bytes made;
    for (const Operand& other : instruction.out) {
      if (!other || program_.tensor(other).storage != tensor.storage) continue;
      made += program_.tensor(other).shape.elements() * size_of(program_.tensor(other).dtype);
    }
    return made == storage.size;
  }

  // The step that waits for the last use of a copy may be the first to fill it again: its bytes
  // count once. Returns how long they are held.
  std::int32_t end_before(std::int32_t life, std::int32_t begin) {
    if (life == kNone) return begin;
    std::int32_t& end = lives_[static_cast<std::size_t>(life)].end;
    const std::int32_t held = end;
    end = std::min(end, begin - 1);
    return held;
  }

  // Tells apart what a copy holds for different layers and, unless it lives across them,
  // micro-steps: a value that is made in parts begins with the first of them.
  static std::int64_t value_of(const Storage& storage, const Step& step, Operand operand) {
    const bool by_layer = storage.copies.count > 1 || storage.anew_in_each_layer;
    const std::int64_t turn =
        by_layer ? (step.compact + operand.shift - storage.copies.first) / storage.copies.every : 0;
    const bool across = storage.region == Region::kGradients;
    return turn + (across ? 0 : std::int64_t{step.micro_step} << 32);
  }

  void touch(Operand operand, const Step& step, std::size_t at, bool defines) {
    if (!operand) return;
    const Tensor& tensor = program_.tensor(operand);
    const Storage& storage = program_.storages[static_cast<std::size_t>(tensor.storage)];
    if (storage.region == Region::kPersistent) return;
    const std::int32_t copy = compact_copy(program_, operand, step);
    std::int32_t& open =
        open_[static_cast<std::size_t>(first_[static_cast<std::size_t>(tensor.storage)]) +
              static_cast<std::size_t>(copy)];
    const auto made = static_cast<std::int32_t>(at);
    // Parts of one instruction begin one life.
    const bool begun = open != kNone && made_[static_cast<std::size_t>(open)] == made;
    const std::int64_t value = value_of(storage, step, operand);
    const bool anew = open != kNone && value_[static_cast<std::size_t>(open)] != value;
    if (open == kNone || (defines && !begun) || anew) {
      const std::int32_t begin = spans_.begin[at];
      const std::int32_t held = end_before(open, begin);
      open = static_cast<std::int32_t>(lives_.size());
      lives_.push_back({tensor.storage, copy, begin, std::max(made, held)});
      value_.push_back(value);
      made_.push_back(made);
    }
    Life& life = lives_[static_cast<std::size_t>(open)];
    life.end = std::max(life.end, spans_.end[at]);
  }

  const StepProgram& program_;
  const Walk& walk_;
  Spans spans_;
  std::vector<std::int32_t> first_;  // of each storage in open_
  std::vector<std::int32_t> open_;   // life that goes on, by copy
  std::vector<Life> lives_;
  std::vector<std::int64_t> value_;  // see value_of
  std::vector<std::int32_t> made_;   // step of the instruction with which it began
};

}  // namespace

std::vector<Life> lives_of(const StepProgram& program, const Walk& walk) {
  return LifeFinder(program, walk).run();
}

void mark_positions(const Walk& walk, std::int32_t begin, std::int32_t end, std::uint64_t* row) {
  for (std::int32_t i = begin; i <= end;) {
    // Steps in a row have positions in a row: a whole word at a time.
    const std::int32_t position = walk.steps[static_cast<std::size_t>(i)].position;
    const std::int32_t run = walk.steps[static_cast<std::size_t>(i)].run;
    const std::int32_t count = std::min({run, end - i + 1, 64 - position % 64});
    const std::uint64_t bits = count == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
    row[position / 64] |= bits << (position % 64);
    i += count;
  }
}

LiveSets live_sets(const StepProgram& program, const Walk& walk, const std::vector<Life>& lives) {
  LiveSets sets{.words = (walk.positions + 63) / 64};
  sets.bits.assign(program.storages.size() * static_cast<std::size_t>(sets.words), 0);
  for (const Life& life : lives) {
    if (program.storages[static_cast<std::size_t>(life.storage)].region != Region::kWork) continue;
    auto* row = sets.bits.data() + static_cast<std::ptrdiff_t>(life.storage) * sets.words;
    mark_positions(walk, life.begin, life.end, row);
  }
  return sets;
}

}  // namespace ftplan::program

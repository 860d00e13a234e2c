#include "program/walk.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "program/step_program.h"

// Note [Sampling]
// All loops over layers leave out the same layers [low, high), a whole number of the longest stride
// and of the program's ring, so that rings of copies keep their turn. With the layers after `high`
// renumbered, what is walked is a program of fewer layers with every flow between neighbours
// intact. Loops over micro-steps leave out equal middle ones.

namespace ftplan::program {
namespace {

// Iterations that are walked at the two ends. The backward begins at the high one, and there a ring
// of two copies fills before all is steady; the layers of one group are enough for that.
struct Ends {
  std::int32_t low, high;
};
constexpr Ends kLayers{3, 4};
constexpr Ends kGroups{2, 3};
constexpr std::int32_t kShortRing = 2;

struct LayerInterval {
  std::int32_t low = 0;
  std::int32_t high = 0;
  [[nodiscard]] bool holds(std::int32_t layer) const { return layer >= low && layer < high; }
  [[nodiscard]] std::int32_t compact(std::int32_t layer) const {
    return layer >= high ? layer - (high - low) : layer;
  }
};

// The outermost layer loop of the longest stride decides.
void find_longest(const StepProgram& program, SegmentId id, const Segment*& longest) {
  const Segment& segment = program.segment(id);
  if (segment.axis == Axis::kLayer) {
    if (longest == nullptr || segment.stride > longest->stride ||
        (segment.stride == longest->stride && segment.repeat > longest->repeat)) {
      longest = &segment;
    }
    return;
  }
  for (const Node& node : segment.body) {
    if (node.is_segment) find_longest(program, node.id, longest);
  }
}

LayerInterval left_out(const StepProgram& program) {
  const Segment* longest = nullptr;
  find_longest(program, program.root, longest);
  if (longest == nullptr) return {};
  const std::int32_t stride = longest->stride;
  Ends ends = stride > 1 ? kGroups : kLayers;
  // Longer rings take longer to fill.
  const std::int32_t more = (program.ring - kShortRing + stride - 1) / stride;
  ends.low += more;
  ends.high += more;
  const std::int32_t low = longest->first + ends.low * stride;
  std::int32_t count =
      (longest->repeat - ends.low - ends.high) / program.ring * program.ring * stride;
  count = std::max(count, 0);
  return {low, low + count};
}

struct Walker {
  const StepProgram& program;
  LayerInterval hidden;
  bool sample = false;
  std::int32_t micro_steps = 1;  // that are walked of those that repeat
  Walk result;

  void segment(SegmentId id, std::int32_t layer, std::int32_t compact, std::int32_t micro_step) {
    const Segment& s = program.segment(id);
    const std::int32_t begin = result.positions;
    const bool outermost = s.axis == Axis::kLayer && layer < 0;
    std::int32_t skipped = 0;
    std::int32_t like = kNone;
    for (std::int32_t i = 0; i < s.repeat; ++i) {
      const std::int32_t run = s.first + (s.descending ? s.repeat - 1 - i : i) * s.stride;
      if (sample &&
          ((outermost && hidden.holds(run)) || (s.axis == Axis::kMicroStep && i >= micro_steps))) {
        ++skipped;
        continue;
      }
      const auto first_step = static_cast<std::int32_t>(result.steps.size());
      result.positions = begin;
      if (s.axis == Axis::kLayer) {
        const std::int32_t compact_run = outermost ? hidden.compact(run) : run;
        this->body(s, (layer < 0 ? 0 : layer) + run, (layer < 0 ? 0 : compact) + compact_run,
                   micro_step);
      } else {
        this->body(s, layer, compact, s.axis == Axis::kMicroStep ? run : micro_step);
      }
      if (skipped > 0 && first_step < static_cast<std::int32_t>(result.steps.size())) {
        Step& step = result.steps[static_cast<std::size_t>(first_step)];
        step.skipped = skipped;
        step.like = like;
        skipped = 0;
      }
      like = first_step;
    }
  }

  void body(const Segment& s, std::int32_t layer, std::int32_t compact, std::int32_t micro_step) {
    for (const Node& node : s.body) {
      if (node.is_segment) {
        segment(node.id, layer, compact, micro_step);
      } else {
        result.steps.push_back({.instruction = node.id,
                                .position = result.positions++,
                                .layer = layer,
                                .compact = compact,
                                .micro_step = micro_step});
      }
    }
  }
};

}  // namespace

Walk walk(const StepProgram& program, Sampling sampling) {
  // The gathers of a micro-step begin in the one before it.
  const bool turns = sampling == Sampling::kTurns || !program.gathered.empty();
  Walker walker{
      .program = program, .sample = sampling != Sampling::kAll, .micro_steps = turns ? 2 : 1};
  if (walker.sample) {
    walker.hidden = left_out(program);
    walker.result.hidden_first = walker.hidden.low;
    walker.result.hidden = walker.hidden.high - walker.hidden.low;
  }
  walker.segment(program.root, -1, -1, 0);
  auto& steps = walker.result.steps;
  for (std::size_t i = steps.size(); i-- > 1;) {
    if (steps[i].position == steps[i - 1].position + 1) steps[i - 1].run = steps[i].run + 1;
  }
  return walker.result;
}

}  // namespace ftplan::program

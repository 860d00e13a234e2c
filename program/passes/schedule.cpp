#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/result.h"
#include "program/clone.h"
#include "program/happens_before.h"
#include "program/lowering.h"
#include "program/op.h"
#include "program/ops/collective.h"
#include "program/passes/passes.h"
#include "program/step_program.h"
#include "program/walk.h"

// Note [Streams]
// Collectives and transfers run on a stream of their own. Each waits for what the compute stream
// was given before it, and signals when it is done. What reads its result waits for the signal of
// its own layer; what overwrites its input waits for the signal of the layer whose copy it takes
// over. Where every micro-step reduces, the last collective of one must have ended before the head
// of the next makes gradients.

namespace ftplan::program {
namespace {

class Scheduler {
 public:
  explicit Scheduler(Lowering& lowering)
      : program_(lowering.program), reduces_at_once_(lowering.reduces_at_once()) {}

  void run() {
    issue(program_.root);
    for (const Issued& collective : issued_) {
      for (const Operand& read : collective.reads) {
        wait_before_overwriting(read, collective.event);
        wait_before_rewriting(collective.id, read, collective.event);
      }
      for (const Operand& written : collective.writes) {
        wait_before_reading(collective.id, written, collective.event);
      }
    }
    if (reduces_at_once_) wait_between_micro_steps();
    drop_idle_events();
  }

 private:
  struct Issued {
    InstructionId id;
    EventId event;
    Operands reads, writes;
  };

  Instruction& at(InstructionId id) { return program_.instructions[static_cast<std::size_t>(id)]; }

  // Puts collectives on their stream, behind a signal of what stands before them.
  void issue(SegmentId id) {
    std::vector<Node> nodes;
    for (const Node& node : std::vector<Node>(program_.segment(id).body)) {
      if (node.is_segment) {
        issue(node.id);
      } else if (communicates(at(node.id).op) && at(node.id).stream != Stream::kGather) {
        // Right behind another, all that stands before it was waited for.
        const bool waits = nodes.empty() || nodes.back().is_segment ||
                           at(nodes.back().id).stream != Stream::kCommunication;
        if (waits) {
          nodes.push_back(signaller(nodes));
          if (nodes.size() > 1 && nodes[nodes.size() - 2] == nodes.back()) nodes.pop_back();
          at(node.id).waits.push_back({at(nodes.back().id).signals, 0});
        }
        Instruction& collective = at(node.id);
        collective.stream = Stream::kCommunication;
        collective.signals = event_of(collective);
        issued_.push_back({node.id, collective.signals, collective.in, collective.out});
        for (const Operand& both : collective.update) issued_.back().writes.push_back(both);
      }
      nodes.push_back(node);
    }
    program_.segments[static_cast<std::size_t>(id)].body = std::move(nodes);
  }

  // The compute instruction before, made to signal, or a mark.
  Node signaller(const std::vector<Node>& nodes) {
    const bool follows_compute = !nodes.empty() && !nodes.back().is_segment &&
                                 at(nodes.back().id).stream == Stream::kCompute;
    if (!follows_compute) {
      program_.instructions.push_back({.op = Op::kMark, .phase = Phase::kReduce});
    }
    const Node node =
        follows_compute ? nodes.back()
                        : Node{static_cast<std::int32_t>(program_.instructions.size()) - 1, false};
    if (at(node.id).signals == kNone) at(node.id).signals = program_.events++;
    return node;
  }

  // Layers in different segments whose copies of one storage travel signal the same event.
  EventId event_of(const Instruction& collective) {
    const Operands& result = !collective.out.empty()      ? collective.out
                             : !collective.update.empty() ? collective.update
                                                          : collective.in;
    const auto [entry, added] =
        events_.try_emplace({collective.op, result[0].tensor}, program_.events);
    if (added) ++program_.events;
    return entry->second;
  }

  void add_wait(InstructionId id, EventUse use) {
    Instruction& instruction = at(id);
    if (std::find(instruction.waits.begin(), instruction.waits.end(), use) ==
        instruction.waits.end()) {
      instruction.waits.push_back(use);
    }
  }

  bool touches(const Operands& operands, StorageId storage) const {
    return std::any_of(operands.begin(), operands.end(), [&](Operand operand) {
      return operand && program_.tensor(operand).storage == storage;
    });
  }

  // The first writer of each body takes over the copy of the layer `count` above.
  void wait_before_overwriting(Operand read, EventId event) {
    const StorageId storage = program_.tensor(read).storage;
    const Storage& s = program_.storages[static_cast<std::size_t>(storage)];
    if (s.region != Region::kWork || s.copies.count < 2) return;
    for (const Segment& segment : program_.segments) {
      const auto writer =
          std::find_if(segment.body.begin(), segment.body.end(), [&](const Node& node) {
            return !node.is_segment && at(node.id).stream == Stream::kCompute &&
                   (touches(at(node.id).out, storage) || touches(at(node.id).update, storage));
          });
      if (writer != segment.body.end()) add_wait(writer->id, {event, s.copies.count});
    }
  }

  // What a stage has sent on, the repetition of its last layer makes again.
  void wait_before_rewriting(InstructionId sender, Operand sent, EventId event) {
    const StorageId storage = program_.tensor(sent).storage;
    const Storage& s = program_.storages[static_cast<std::size_t>(storage)];
    if (s.region != Region::kStack) return;
    const auto order = instructions_below(program_, program_.segment(program_.root).body);
    const auto from = std::find(order.begin(), order.end(), sender);
    for (auto id = from; id != order.end(); ++id) {
      if (at(*id).stream != Stream::kCompute) continue;
      for (const Operand& out : at(*id).out) {
        if (out && program_.tensor(out).storage == storage)
          return add_wait(*id, {event, out.shift - sent.shift});
      }
    }
  }

  void wait_before_reading(InstructionId collective, Operand written, EventId event) {
    const StorageId storage = program_.tensor(written).storage;
    const auto order = instructions_below(program_, program_.segment(program_.root).body);
    const auto from = std::find(order.begin(), order.end(), collective);
    const auto reader = std::find_if(from, order.end(), [&](InstructionId id) {
      return at(id).stream == Stream::kCompute &&
             (touches(at(id).in, storage) || touches(at(id).update, storage));
    });
    if (reader != order.end()) add_wait(*reader, {event, 0});
  }

  // Streams keep their order: when the last collective has ended, all have. The wait is outside the
  // layers, so that its shift is a layer's number.
  void wait_between_micro_steps() {
    EventUse last;
    for (const Node& node : std::vector<Node>(program_.segment(program_.root).body)) {
      if (!node.is_segment || program_.segment(node.id).axis != Axis::kMicroStep) continue;
      if (last.event != kNone) {
        program_.instructions.push_back({.op = Op::kMark, .phase = Phase::kLoss, .waits = {last}});
        const Node mark{static_cast<std::int32_t>(program_.instructions.size()) - 1, false};
        auto& body = program_.segments[static_cast<std::size_t>(node.id)].body;
        const auto head = std::find_if(body.begin(), body.end(), [&](const Node& part) {
          return part.is_segment && program_.segment(part.id).role == Role::kHead;
        });
        FTPLAN_CHECK(head != body.end());
        body.insert(head, mark);
      }
      last = last_collective(node.id, -1);
    }
  }

  // The event of the last collective below `id`, the shift counted from outside the layers.
  [[nodiscard]] EventUse last_collective(SegmentId id, std::int32_t layer) const {
    const Segment& segment = program_.segment(id);
    if (segment.axis == Axis::kLayer) {
      const std::int32_t last = segment.descending ? 0 : segment.repeat - 1;
      layer = std::max(layer, 0) + segment.first + last * segment.stride;
    }
    for (auto node = segment.body.rbegin(); node != segment.body.rend(); ++node) {
      if (node->is_segment) {
        const EventUse inner = last_collective(node->id, layer);
        if (inner.event != kNone) return inner;
      } else if (program_.instruction(node->id).stream == Stream::kCommunication) {
        return {program_.instruction(node->id).signals, layer + 1};
      }
    }
    return {};
  }

  // Waits for what other waits have seen to already, and signals that nobody waits for.
  void drop_idle_events() {
    const UsefulEvents useful = useful_events(program_, walk(program_, Sampling::kTurns));
    for (std::size_t id = 0; id < program_.instructions.size(); ++id) {
      Instruction& instruction = program_.instructions[id];
      const auto all = instruction.waits;
      instruction.waits.clear();
      for (int i = 0; i < all.size(); ++i) {
        if (((useful.waits[id] >> i) & 1) != 0) instruction.waits.push_back(all[i]);
      }
      if (!useful.signals[id]) instruction.signals = kNone;
    }
  }

  StepProgram& program_;
  bool reduces_at_once_;
  std::map<std::pair<Op, TensorId>, EventId> events_;
  std::vector<Issued> issued_;
};

}  // namespace

Result<void> schedule(Lowering& lowering) {
  const auto& instructions = lowering.program.instructions;
  const bool several = std::any_of(instructions.begin(), instructions.end(),
                                   [](const Instruction& at) { return communicates(at.op); });
  if (several) Scheduler(lowering).run();
  return {};
}

}  // namespace ftplan::program

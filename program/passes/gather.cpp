#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/result.h"
#include "program/attributes.h"
#include "program/clone.h"
#include "program/lowering.h"
#include "program/op.h"
#include "program/passes/passes.h"
#include "program/step_program.h"
#include "program/walk.h"

// Note [Gathers]
// Under ZeRO-3 a unit of weights is put together before its use and given up after it. A *visit* is
// one run of a segment's own instructions that use such units: a layer forward, a layer backward
// with its recomputation, embedding, head. The gathers of a visit may begin when the visit
// prefetch + 1 before it has ended, and when nobody uses the copies that they fill; so no more than
// the units of prefetch + 1 visits in a row are held. A visit that follows another of the same
// layer uses what that one has gathered. Waits are found on the sampled walk: one for each pair of
// visits, as an event and a distance in layers that holds for all runs of a segment.

namespace ftplan::program {
namespace {

class Gatherer {
 public:
  explicit Gatherer(Lowering& lowering)
      : program_(lowering.program),
        window_(lowering.gathered_layers()),
        unit_of_(lowering.program.storages.size(), kNone) {
    program_.attributes.emplace_back(
        CollectiveAttributes{.ranks = lowering.job.data_parallel(), .rank = lowering.request.rank});
    attributes_ = static_cast<AttributesId>(program_.attributes.size()) - 1;
    for (std::size_t u = 0; u < program_.gathered.size(); ++u) {
      const StorageId whole = program_.tensor(program_.gathered[u].whole).storage;
      unit_of_[static_cast<std::size_t>(whole)] = static_cast<std::int32_t>(u);
      gathered_.push_back(program_.events++);
    }
    released_ = program_.events++;
  }

  void run() {
    set_first_runs_apart(program_.root);
    find_visits();
    join_visits();
    find_waits();
    for (const auto& [segment, gather] : gathers_) place(segment, gather);
    for (const auto& [segment, units] : used_in_) wait_for(segment, units);
  }

 private:
  using Units = std::vector<std::int32_t>;

  struct Visit {
    SegmentId segment = kNone;
    std::int32_t layer = -1;  // the left-out ones not counted
    std::int32_t micro_step = 0;
    std::int32_t true_layer = -1;
    Units units;
    InstructionId last = kNone;
  };

  // What a segment gathers, and the instruction before which it does.
  struct Gather {
    Units units;
    std::vector<EventUse> waits;
  };

  Instruction& at(InstructionId id) { return program_.instructions[static_cast<std::size_t>(id)]; }
  Segment& segment(SegmentId id) { return program_.segments[static_cast<std::size_t>(id)]; }
  [[nodiscard]] const GatheredUnit& unit(std::int32_t u) const {
    return program_.gathered[static_cast<std::size_t>(u)];
  }

  static void add(Units& units, std::int32_t u) {
    if (std::find(units.begin(), units.end(), u) == units.end()) units.push_back(u);
  }

  [[nodiscard]] Units units_of(const Instruction& instruction) const {
    Units units;
    for (const Operands* list : {&instruction.in, &instruction.update}) {
      for (const Operand& operand : *list) {
        if (!operand) continue;
        const auto storage = static_cast<std::size_t>(program_.tensor(operand).storage);
        if (unit_of_[storage] != kNone) add(units, unit_of_[storage]);
      }
    }
    return units;
  }

  [[nodiscard]] Units layer_units_below(SegmentId id) const {
    Units units;
    for (const InstructionId instruction : instructions_below(program_, {{id, true}})) {
      for (const std::int32_t u : units_of(program_.instruction(instruction))) {
        if (unit(u).per_layer) add(units, u);
      }
    }
    return units;
  }

  static std::int32_t first_layer(const Segment& s) {
    return s.first + (s.descending ? (s.repeat - 1) * s.stride : 0);
  }

  // The backward of a group of layers begins with the layer that was run again last: that run is a
  // segment of its own, which does not gather.
  void set_first_runs_apart(SegmentId id) {
    for (std::size_t i = 0; i < segment(id).body.size(); ++i) {
      const Node node = segment(id).body[i];
      if (!node.is_segment) continue;
      set_first_runs_apart(node.id);
      if (i == 0 || !segment(id).body[i - 1].is_segment) continue;
      const SegmentId before = segment(id).body[i - 1].id;
      if (!follows(before, node.id)) continue;
      Segment first = segment(node.id);
      first.body = clone_nodes(program_, first.body, {});
      first.first = first_layer(first);
      first.repeat = 1;
      Segment& rest = segment(node.id);
      if (!rest.descending) rest.first += rest.stride;
      --rest.repeat;
      const Node apart = add_segment(program_, std::move(first));
      auto& body = segment(id).body;
      body.insert(body.begin() + static_cast<std::ptrdiff_t>(i), apart);
      ++i;
    }
  }

  // Whether the first of several runs of `id` is on the layer that `before` has been on.
  [[nodiscard]] bool follows(SegmentId before, SegmentId id) const {
    const Segment& a = program_.segment(before);
    const Segment& b = program_.segment(id);
    if (a.axis != Axis::kLayer || b.axis != Axis::kLayer || a.repeat != 1 || b.repeat < 2 ||
        a.first != first_layer(b))
      return false;
    const Units units = layer_units_below(id);
    const Units known = layer_units_below(before);
    return std::any_of(units.begin(), units.end(), [&](std::int32_t u) {
      return std::find(known.begin(), known.end(), u) != known.end();
    });
  }

  void find_bodies(SegmentId id, std::vector<SegmentId>& bodies) const {
    for (const Node& node : program_.segment(id).body) {
      if (node.is_segment) {
        find_bodies(node.id, bodies);
      } else {
        bodies[static_cast<std::size_t>(node.id)] = id;
      }
    }
  }

  void find_visits() {
    std::vector<SegmentId> bodies(program_.instructions.size(), kNone);
    find_bodies(program_.root, bodies);
    std::vector<Units> used(program_.instructions.size());
    for (std::size_t i = 0; i < used.size(); ++i) used[i] = units_of(program_.instructions[i]);
    for (const Step& step : walk(program_, Sampling::kTurns).steps) {
      const Units& units = used[static_cast<std::size_t>(step.instruction)];
      if (units.empty()) continue;
      const SegmentId body = bodies[static_cast<std::size_t>(step.instruction)];
      const bool goes_on = !visits_.empty() && visits_.back().segment == body &&
                           visits_.back().layer == step.compact &&
                           visits_.back().micro_step == step.micro_step;
      if (!goes_on) {
        visits_.push_back({.segment = body,
                           .layer = step.compact,
                           .micro_step = step.micro_step,
                           .true_layer = step.layer});
      }
      for (const std::int32_t u : units) {
        add(visits_.back().units, u);
        add(used_in_[body], u);
      }
      visits_.back().last = step.instruction;
    }
  }

  // Visits of one layer in a row, by segments that run once, are one: the first gathers for all.
  void join_visits() {
    std::vector<Visit> joined;
    for (const Visit& visit : visits_) {
      if (!joined.empty() && joins(joined.back(), visit)) {
        for (const std::int32_t u : visit.units) add(joined.back().units, u);
        joined.back().last = visit.last;
        FTPLAN_CHECK(!gathers_.contains(visit.segment));
      } else {
        joined.push_back(visit);
      }
      Units& units = gathers_[joined.back().segment].units;
      for (const std::int32_t u : joined.back().units) add(units, u);
    }
    visits_ = std::move(joined);
  }

  [[nodiscard]] bool joins(const Visit& before, const Visit& visit) const {
    return program_.segment(before.segment).repeat == 1 &&
           program_.segment(visit.segment).repeat == 1 && before.layer == visit.layer &&
           before.micro_step == visit.micro_step && before.segment != visit.segment &&
           std::any_of(visit.units.begin(), visit.units.end(), [&](std::int32_t u) {
             return std::find(before.units.begin(), before.units.end(), u) != before.units.end();
           });
  }

  void find_waits() {
    std::map<std::pair<std::int32_t, std::int32_t>, std::int32_t> users;  // of a unit's copy
    for (std::size_t k = 0; k < visits_.size(); ++k) {
      const Visit& visit = visits_[k];
      std::int32_t over = static_cast<std::int32_t>(k) - window_;
      for (const std::int32_t u : visit.units) {
        const Copies& copies = program_.storage_of(unit(u).whole).copies;
        const auto [user, first] = users.try_emplace({u, copies.index(visit.layer)}, kNone);
        over = std::max(over, user->second);
        user->second = static_cast<std::int32_t>(k);
      }
      if (over < 0) continue;
      const Visit& ended = visits_[static_cast<std::size_t>(over)];
      const bool at_edges = !of_layer(ended) && !of_layer(visit) && ended.layer != visit.layer;
      const EventUse wait = at_edges ? EventUse{.event = mark_after(ended.segment), .outside = true}
                                     : EventUse{release(ended), ended.layer - visit.layer};
      auto& waits = gathers_.at(visit.segment).waits;
      if (std::find(waits.begin(), waits.end(), wait) == waits.end()) waits.push_back(wait);
    }
  }

  // Layers and the head have numbers of their own, so that one event tells them apart; the
  // embedding shares its number with the first layer.
  EventId release(const Visit& visit) {
    Instruction& last = at(visit.last);
    if (last.signals == kNone) {
      const bool alone = of_layer(visit) || visit.true_layer >= program_.layers;
      last.signals = alone ? released_ : program_.events++;
    }
    return last.signals;
  }

  [[nodiscard]] bool of_layer(const Visit& visit) const {
    return std::any_of(visit.units.begin(), visit.units.end(),
                       [&](std::int32_t u) { return unit(u).per_layer; });
  }

  // Between embedding and head the distance in layers is that of the whole model, of which the walk
  // leaves some out: a mark behind the segment tells that it has ended.
  EventId mark_after(SegmentId id) {
    const auto [mark, added] = marks_.try_emplace(id, kNone);
    if (!added) return mark->second;
    mark->second = program_.events++;
    program_.instructions.push_back(
        {.op = Op::kMark, .phase = Phase::kForward, .signals = mark->second});
    const Node node{static_cast<std::int32_t>(program_.instructions.size()) - 1, false};
    for (Segment& outer : program_.segments) {
      const auto at = std::find(outer.body.begin(), outer.body.end(), Node{id, true});
      if (at == outer.body.end()) continue;
      FTPLAN_CHECK(outer.axis != Axis::kLayer);
      outer.body.insert(at + 1, node);
    }
    return mark->second;
  }

  void place(SegmentId id, const Gather& gather) {
    auto& body = segment(id).body;
    std::size_t position = 0;
    while (body[position].is_segment || units_of(at(body[position].id)).empty()) ++position;
    const Phase phase = at(body[position].id).phase;
    std::vector<Instruction> added;
    for (const std::int32_t u : gather.units) {
      added.push_back({.op = Op::kAllGather,
                       .stream = Stream::kGather,
                       .phase = phase,
                       .attributes = attributes_,
                       .in = {{unit(u).shard}},
                       .out = {{unit(u).whole}},
                       .signals = gathered_[static_cast<std::size_t>(u)]});
    }
    // What does not fit into the first gather's waits is waited for before it.
    for (std::size_t i = 0; i < gather.waits.size(); ++i) {
      if (i % kWaits == 0 && i > 0)
        added.insert(added.begin(), {.op = Op::kMark, .stream = Stream::kGather, .phase = phase});
      added.front().waits.push_back(gather.waits[i]);
    }
    std::vector<Node> nodes;
    for (const Instruction& instruction : added) {
      program_.instructions.push_back(instruction);
      nodes.push_back({static_cast<std::int32_t>(program_.instructions.size()) - 1, false});
    }
    auto& into = segment(id).body;
    into.insert(into.begin() + static_cast<std::ptrdiff_t>(position), nodes.begin(), nodes.end());
  }

  // The first instruction that uses a unit; `schedule` drops waits that add nothing.
  void wait_for(SegmentId id, const Units& units) {
    for (const std::int32_t u : units) {
      for (const Node& node : segment(id).body) {
        if (node.is_segment || at(node.id).stream != Stream::kCompute) continue;
        const Units used = units_of(at(node.id));
        if (std::find(used.begin(), used.end(), u) == used.end()) continue;
        at(node.id).waits.push_back({gathered_[static_cast<std::size_t>(u)], 0});
        break;
      }
    }
  }

  static constexpr std::size_t kWaits = 4;

  StepProgram& program_;
  std::int32_t window_;                // visits whose units are held at a time
  std::vector<std::int32_t> unit_of_;  // by storage
  std::vector<EventId> gathered_;      // by unit
  EventId released_ = kNone;
  AttributesId attributes_ = kNone;
  std::vector<Visit> visits_;
  std::map<SegmentId, Gather> gathers_;
  std::map<SegmentId, Units> used_in_;
  std::map<SegmentId, EventId> marks_;
};

}  // namespace

Result<void> gather(Lowering& lowering) {
  if (!lowering.program.gathered.empty() && lowering.request.kind != ProgramKind::kLoad)
    Gatherer(lowering).run();
  return {};
}

}  // namespace ftplan::program

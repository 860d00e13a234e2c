#include "estimator/layout_graph.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/layout_graph.h"
#include "core/units.h"
#include "program/lifetimes.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/ops/collective.h"
#include "program/step_program.h"
#include "program/walk.h"

namespace ftplan::estimator {
namespace {

using program::Phase;
using program::Region;
using program::Role;
using program::Storage;
using program::StorageId;

enum class Part : std::uint8_t { kInputs, kEmbedding, kLayers, kHead, kOptimizer, kRanks };
constexpr std::array kNames = {"inputs",        "embedding", "layers",
                               "head and loss", "optimizer", "other ranks"};

std::size_t index(Part part) { return static_cast<std::size_t>(part); }
template <class T>
auto& at(T& list, std::int32_t id) {
  return list[static_cast<std::size_t>(id)];
}

// The part of each instruction: that of its segment, which lowering names or its weights tell.
class PartFinder {
 public:
  explicit PartFinder(const program::StepProgram& program)
      : program_(program), parts_(program.instructions.size(), Part::kHead) {
    for (const auto& weight : program.weights) {
      if (weight.per_layer) of_layers(weight.tensor);
    }
    for (const auto& adapter : program.adapters) {
      if (adapter.per_layer) of_layers(adapter.tensor);
    }
    for (const auto& unit : program.units) {
      if (unit.per_layer) of_layers(unit.gradients);
    }
    visit(program.root, Role::kOther);
  }
  std::vector<Part> take() { return std::move(parts_); }

 private:
  void of_layers(program::TensorId tensor) {
    if (tensor != program::kNone) layer_storages_.insert(program_.tensor(tensor).storage);
  }

  void visit(program::SegmentId id, Role outer) {
    const program::Segment& segment = program_.segment(id);
    const Role role = segment.role == Role::kOther ? outer : segment.role;
    const Part part = part_of(segment, role);
    for (const program::Node& node : segment.body) {
      if (node.is_segment) {
        visit(node.id, role);
      } else {
        at(parts_, node.id) = part_of(program_.instruction(node.id), part);
      }
    }
  }

  [[nodiscard]] Part part_of(const program::Segment& segment, Role role) const {
    if (role == Role::kEmbed) return Part::kEmbedding;
    if (role == Role::kLayers || role == Role::kBackwardLayers || role == Role::kEntry ||
        role == Role::kExit)
      return Part::kLayers;
    if (role == Role::kHead) return Part::kHead;
    Part part = Part::kHead;
    for (const program::Node& node : segment.body) {
      // Layers of layers: a group that is recomputed at a time.
      if (node.is_segment && segment.axis == program::Axis::kLayer) return Part::kLayers;
      if (node.is_segment) continue;
      const program::Instruction& instruction = program_.instruction(node.id);
      if (instruction.op == program::Op::kEmbedBackward) part = Part::kEmbedding;
      for (const auto* operands : {&instruction.in, &instruction.out, &instruction.update}) {
        for (const program::Operand operand : *operands) {
          if (operand && layer_storages_.contains(program_.tensor(operand).storage))
            return Part::kLayers;
        }
      }
    }
    return part;
  }

  static Part part_of(const program::Instruction& instruction, Part of_segment) {
    if (instruction.op == program::Op::kBatch) return Part::kInputs;
    const bool updates =
        instruction.phase == Phase::kOptimizer || instruction.phase == Phase::kReduce;
    return updates ? Part::kOptimizer : of_segment;
  }

  const program::StepProgram& program_;
  std::vector<Part> parts_;
  std::set<StorageId> layer_storages_;
};

class Drawer {
 public:
  explicit Drawer(const program::StepProgram& program)
      : program_(program),
        walk_(program::walk(program, program::Sampling::kAll)),
        parts_(PartFinder(program).take()),
        owners_(program.storages.size()) {}

  LayoutGraph draw() {
    find_owners();
    hold_storages();
    hold_work();
    find_flows();
    LayoutGraph graph;
    graph.arena = program_.arena[static_cast<std::size_t>(Place::kDevice)];
    for (const Bytes& region : program_.scratch) graph.scratch += region;
    add_parts(graph);
    return graph;
  }

 private:
  [[nodiscard]] Part part_of(const program::Step& step) const {
    return parts_[static_cast<std::size_t>(step.instruction)];
  }

  // The first part that uses a storage has it, but for what has a part of its own.
  void find_owners() {
    for (const program::Step& step : walk_.steps) {
      const Part part = part_of(step);
      layers_ = std::max(layers_, part == Part::kLayers ? step.layer + 1 : 0);
      for_each_operand(step, [&](program::Operand operand) {
        auto& owner = at(owners_, program_.tensor(operand).storage);
        const bool weak = !owner || *owner == Part::kOptimizer || *owner == Part::kInputs;
        if (!owner || (weak && part != Part::kOptimizer)) owner = part;
      });
    }
    for (std::size_t i = 0; i < program_.storages.size(); ++i) {
      const Storage& storage = program_.storages[i];
      if (storage.category == Category::kOptimizer) owners_[i] = Part::kOptimizer;
      if (storage.category == Category::kInputs && storage.place == Place::kHost)
        owners_[i] = Part::kInputs;
      const bool total = storage.region == Region::kPersistent &&
                         storage.category == Category::kActivations;  // loss and norm
      if (total || !owners_[i]) owners_[i] = Part::kHead;
      if (storage.region == Region::kStack) owners_[i] = Part::kLayers;
    }
  }

  template <class Visit>
  void for_each_operand(const program::Step& step, const Visit& visit) const {
    const program::Instruction& instruction = program_.instruction(step.instruction);
    for (const auto* operands : {&instruction.in, &instruction.out, &instruction.update}) {
      for (const program::Operand operand : *operands) {
        if (operand) visit(operand);
      }
    }
  }

  void hold(Part part, const Holding& more) {
    if (more.bytes == Bytes{}) return;
    for (Holding& holding : holds_[index(part)]) {
      if (holding.category != more.category || holding.held != more.held ||
          holding.place != more.place || holding.copies != more.copies)
        continue;
      holding.bytes += more.bytes;
      return;
    }
    holds_[index(part)].push_back(more);
  }

  void hold_storages() {
    for (std::size_t i = 0; i < program_.storages.size(); ++i) {
      const Storage& storage = program_.storages[i];
      const bool on_device_in_turns =
          storage.region == Region::kWork && storage.place == Place::kDevice;
      if (on_device_in_turns) continue;
      hold(*owners_[i],
           {.category = storage.category,
            .held = storage.region == Region::kPersistent ? Held::kAlways : Held::kInAStep,
            .place = storage.place,
            .bytes = storage.copies.count * accounted(storage),
            .copies = storage.copies.count});
    }
  }

  // The fullest instant of each part in the region that all share.
  void hold_work() {
    using Counts = std::array<std::int64_t, kCategories>;
    std::vector<Counts> changes(walk_.steps.size() + 1);
    for (const program::Life& life : program::lives_of(program_, walk_)) {
      const Storage& storage = at(program_.storages, life.storage);
      if (storage.region != Region::kWork || storage.place != Place::kDevice) continue;
      const auto category = static_cast<std::size_t>(storage.category);
      at(changes, life.begin)[category] += accounted(storage).value;
      at(changes, life.end + 1)[category] -= accounted(storage).value;
    }
    std::array<Counts, kNames.size()> fullest{};
    Counts now{};
    const auto sum = [](const Counts& counts) {
      std::int64_t total = 0;
      for (const std::int64_t count : counts) total += count;
      return total;
    };
    for (std::size_t i = 0; i < walk_.steps.size(); ++i) {
      for (std::size_t c = 0; c < kCategories; ++c) now[c] += changes[i][c];
      Counts& most = fullest[index(part_of(walk_.steps[i]))];
      if (sum(now) > sum(most)) most = now;
    }
    for (std::size_t p = 0; p < fullest.size(); ++p) {
      for (std::size_t c = 0; c < kCategories; ++c) {
        hold(static_cast<Part>(p), {.category = static_cast<Category>(c),
                                    .held = Held::kAtATime,
                                    .bytes = Bytes{fullest[p][c]}});
      }
    }
  }

  using FlowKey = std::tuple<Part, Part, Flow>;

  void find_flows() {
    struct Source {
      Part part;
      Phase phase;
    };
    std::map<std::pair<StorageId, std::int32_t>, Source> written;
    std::map<FlowKey, std::set<std::pair<StorageId, std::int32_t>>> seen;
    for (const program::Step& step : walk_.steps) {
      const program::Instruction& instruction = program_.instruction(step.instruction);
      const Part part = part_of(step);
      const auto copy = [&](program::Operand operand) {
        return std::pair(program_.tensor(operand).storage,
                         program::copy_of(program_, operand, step.layer));
      };
      for (const auto* operands : {&instruction.in, &instruction.update}) {
        for (const program::Operand operand : *operands) {
          if (!operand) continue;
          const Storage& storage = program_.storage_of(operand.tensor);
          if (communicates(instruction.op))
            send(part, instruction.op, program_.tensor(operand).extent());
          if (storage.region == Region::kPersistent) {
            share(part, operand);
            continue;
          }
          const auto from = written.find(copy(operand));
          if (from == written.end() || from->second.part == part) continue;
          // What the forward has kept is held, it does not flow.
          const bool kept =
              from->second.phase == Phase::kForward &&
              (instruction.phase == Phase::kBackward || instruction.phase == Phase::kRecompute);
          if (kept) continue;
          const Flow flow = part == Part::kOptimizer                ? Flow::kUpdate
                            : instruction.phase == Phase::kBackward ? Flow::kBackward
                                                                    : Flow::kForward;
          // One layer's at a time, but the optimizer reads those of all.
          auto key = copy(operand);
          if (flow != Flow::kUpdate) key.second = 0;
          const FlowKey way{from->second.part, part, flow};
          if (seen[way].insert(key).second) flows_[way].bytes += accounted(storage);
        }
      }
      for (const auto* operands : {&instruction.out, &instruction.update}) {
        for (const program::Operand operand : *operands) {
          if (operand) written[copy(operand)] = {part, instruction.phase};
        }
      }
    }
  }

  void share(Part part, program::Operand operand) {
    const Storage& storage = program_.storage_of(operand.tensor);
    const Part owner = *at(owners_, program_.tensor(operand).storage);
    if (storage.category != Category::kWeights || part == Part::kOptimizer || owner == part) return;
    if (shared_.insert({program_.tensor(operand).storage, part}).second)
      flows_[{owner, part, Flow::kShared}].bytes += accounted(storage);
  }

  void send(Part part, program::Op op, Bytes bytes) {
    LayoutFlow& flow = flows_[{part, Part::kRanks, Flow::kTransfer}];
    const std::string name = program::name_of(op);
    if (flow.what.find(name) == std::string::npos)
      flow.what += (flow.what.empty() ? "" : ", ") + name;
    flow.bytes += bytes;
  }

  // Parts without bytes and flows are left out.
  void add_parts(LayoutGraph& graph) {
    std::array<std::int64_t, kNames.size()> places{};
    for (std::size_t p = 0; p < kNames.size(); ++p) {
      const bool flows = std::any_of(flows_.begin(), flows_.end(), [&](const auto& entry) {
        return index(std::get<0>(entry.first)) == p || index(std::get<1>(entry.first)) == p;
      });
      if (holds_[p].empty() && !flows) continue;
      places[p] = static_cast<std::int64_t>(graph.parts.size());
      graph.parts.push_back({.name = kNames[p],
                             .repeats = p == index(Part::kLayers) ? layers_ : 1,
                             .holds = holds_[p]});
    }
    for (const auto& [key, flow] : flows_) {
      const auto [from, to, kind] = key;
      graph.flows.push_back({.from = places[index(from)],
                             .to = places[index(to)],
                             .flow = kind,
                             .bytes = flow.bytes,
                             .what = flow.what});
    }
  }

  const program::StepProgram& program_;
  program::Walk walk_;
  std::vector<Part> parts_;
  std::vector<std::optional<Part>> owners_;
  std::array<std::vector<Holding>, kNames.size()> holds_;
  std::map<FlowKey, LayoutFlow> flows_;
  std::set<std::pair<StorageId, Part>> shared_;
  std::int32_t layers_ = 1;
};

}  // namespace

LayoutGraph draw_layout(const program::StepProgram& program, std::int64_t rank) {
  LayoutGraph graph = Drawer(program).draw();
  graph.rank = rank;
  return graph;
}

}  // namespace ftplan::estimator

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/check.h"
#include "core/result.h"
#include "program/attributes.h"
#include "program/clone.h"
#include "program/lowering.h"
#include "program/op.h"
#include "program/passes/passes.h"
#include "program/step_program.h"

// Note [ZeRO-1]
// Each rank owns the moments and masters of 1/ranks of every unit. When the last micro-step has
// made a unit's gradient, it is reduced to the owners' shards; each rank updates its part of the
// weights; then the parts are gathered. The norm is that of the shards, summed over the ranks.

namespace ftplan::program {
namespace {

class Sharder {
 public:
  explicit Sharder(Lowering& lowering) : program_(lowering.program) {
    program_.attributes.emplace_back(
        CollectiveAttributes{.ranks = lowering.job.ranks(), .rank = lowering.request.rank});
    attributes_ = static_cast<AttributesId>(program_.attributes.size()) - 1;
  }

  void run() {
    const SegmentId last = last_micro_step();
    for (const TrainedUnit& unit : program_.units) {
      reduce(last, unit);
      gather(unit);
    }
    sum_norm();
  }

 private:
  std::vector<Node>& body(SegmentId id) {
    return program_.segments[static_cast<std::size_t>(id)].body;
  }

  Node add(Instruction instruction) {
    program_.instructions.push_back(instruction);
    return {static_cast<std::int32_t>(program_.instructions.size()) - 1, false};
  }

  SegmentId last_micro_step() {
    SegmentId last = kNone;
    for (const Node& node : body(program_.root)) {
      if (node.is_segment && program_.segment(node.id).axis == Axis::kMicroStep) last = node.id;
    }
    return last;
  }

  bool writes(const Node& node, StorageId storage) const {
    const std::vector<Node> one = {node};
    const auto ids = instructions_below(program_, one);
    return std::any_of(ids.begin(), ids.end(), [&](InstructionId id) {
      const auto written = written_storages(program_, program_.instruction(id));
      return std::find(written.begin(), written.end(), storage) != written.end();
    });
  }

  // Puts the reduction behind the last node below `segment` that adds to the unit's gradient.
  void reduce(SegmentId segment, const TrainedUnit& unit) {
    const StorageId storage = program_.tensor(unit.gradients).storage;
    std::size_t last = body(segment).size();
    for (std::size_t i = 0; i < body(segment).size(); ++i) {
      const Node node = body(segment)[i];
      if (!writes(node, storage)) continue;
      last = i;
      // Each layer reduces its own copy, so the loops over layers are entered one by one.
      if (unit.per_layer && node.is_segment) reduce(node.id, unit);
    }
    if (last == body(segment).size() || (unit.per_layer && body(segment)[last].is_segment)) return;
    const Node node = add({.op = Op::kReduceScatter,
                           .phase = Phase::kReduce,
                           .attributes = attributes_,
                           .in = {{unit.gradients}},
                           .out = {{unit.update_gradients}}});
    body(segment).insert(body(segment).begin() + static_cast<std::ptrdiff_t>(last) + 1, node);
  }

  // Behind the updates of the unit's weights.
  void gather(const TrainedUnit& unit) {
    const StorageId storage = program_.tensor(unit.weights).storage;
    for (const Node& node : body(program_.root)) {
      if (!node.is_segment || !writes(node, storage)) continue;
      const Node gather = add({.op = Op::kAllGather,
                               .phase = Phase::kOptimizer,
                               .attributes = attributes_,
                               .update = {{unit.weights}}});
      body(node.id).push_back(gather);
      return;
    }
    FTPLAN_CHECK(false);
  }

  void sum_norm() {
    auto& nodes = body(program_.root);
    const auto clip = std::find_if(nodes.begin(), nodes.end(), [&](const Node& node) {
      return !node.is_segment && program_.instruction(node.id).op == Op::kClip;
    });
    FTPLAN_CHECK(clip != nodes.end());
    nodes.insert(clip, add({.op = Op::kAllReduce,
                            .phase = Phase::kOptimizer,
                            .attributes = attributes_,
                            .update = {{program_.interface.gradient_norm}}}));
  }

  StepProgram& program_;
  AttributesId attributes_ = kNone;
};

}  // namespace

Result<void> shard(Lowering& lowering) {
  if (lowering.trains() && lowering.shards()) Sharder(lowering).run();
  return {};
}

}  // namespace ftplan::program

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

// Note [ZeRO]
// Stage 0: when the last micro-step has made a unit's gradient, it is summed over all ranks, and
// each updates all weights.
// Stage 1: each rank owns the moments and masters of 1/ranks of every unit. The gradient is reduced
// to the owners' shards; each rank updates its part of the weights; then the parts are gathered.
// The norm is that of the shards, summed over the ranks.
// Stage 2: gradients are reduced in every micro-step and added up in the shards, so that no rank
// holds more than two units' gradients. With one micro-step stage 1 does the same.
// Stage 3: weights are kept in parts too, see Note [Gathers]; those are not gathered when they are
// updated.

namespace ftplan::program {
namespace {

class Sharder {
 public:
  explicit Sharder(Lowering& lowering)
      : program_(lowering.program),
        shards_(lowering.shards()),
        at_once_(lowering.reduces_at_once()) {
    // Where nothing is sharded, the programs of all ranks are one.
    program_.attributes.emplace_back(CollectiveAttributes{
        .ranks = lowering.job.data_parallel(), .rank = shards_ ? lowering.request.rank : 0});
    attributes_ = static_cast<AttributesId>(program_.attributes.size()) - 1;
  }

  void run() {
    std::vector<SegmentId> micro_steps;
    for (const Node& node : body(program_.root)) {
      if (node.is_segment && program_.segment(node.id).axis == Axis::kMicroStep)
        micro_steps.push_back(node.id);
    }
    for (const TrainedUnit& unit : program_.units) {
      for (const SegmentId micro_step : micro_steps) {
        adds_ = micro_step != micro_steps.front();
        if (at_once_ || micro_step == micro_steps.back()) reduce(micro_step, unit);
      }
      if (shards_ && unit.weights == unit.whole) gather(unit);
    }
    if (shards_) sum_norm();
  }

 private:
  std::vector<Node>& body(SegmentId id) {
    return program_.segments[static_cast<std::size_t>(id)].body;
  }

  Node add(Instruction instruction) {
    program_.instructions.push_back(instruction);
    return {static_cast<std::int32_t>(program_.instructions.size()) - 1, false};
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
    Instruction reduction{.phase = Phase::kReduce, .attributes = attributes_};
    if (shards_) {
      reduction.op = Op::kReduceScatter;
      reduction.in = {{unit.gradients}};
      reduction.out = {{unit.update_gradients}};
      reduction.accumulate = at_once_ && adds_ ? 1 : 0;
    } else {
      reduction.op = Op::kAllReduce;
      reduction.update = {{unit.gradients}};
    }
    const Node node = add(reduction);
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
  bool shards_;
  bool at_once_;
  bool adds_ = false;  // to what earlier micro-steps have reduced
  AttributesId attributes_ = kNone;
};

}  // namespace

Result<void> shard(Lowering& lowering) {
  if (lowering.trains() && lowering.job.data_parallel() > 1) Sharder(lowering).run();
  return {};
}

}  // namespace ftplan::program

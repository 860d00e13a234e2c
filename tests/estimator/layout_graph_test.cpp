#include "estimator/layout_graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <set>
#include <string>
#include <tuple>

#include "core/category.h"
#include "core/layout_graph.h"
#include "core/units.h"
#include "program/step_program.h"
#include "tests/program/support.h"

namespace ftplan::estimator {
namespace {

using program::Case;
using program::StepProgram;

const LayoutPart& part_of(const LayoutGraph& graph, const std::string& name) {
  const auto found = std::find_if(graph.parts.begin(), graph.parts.end(),
                                  [&](const LayoutPart& part) { return part.name == name; });
  EXPECT_NE(found, graph.parts.end()) << name;
  return *found;
}

std::int64_t always(const LayoutPart& part, Category category) {
  std::int64_t bytes = 0;
  for (const Holding& holding : part.holds) {
    if (holding.category == category && holding.held == Held::kAlways) bytes += holding.bytes.value;
  }
  return bytes;
}

// Elements of trained tensors, each padded to 256.
std::int64_t padded(std::initializer_list<std::int64_t> tensors) {
  std::int64_t sum = 0;
  for (const std::int64_t elements : tensors) sum += round_up(elements, std::int64_t{256});
  return sum;
}

// Two layers of 16 hidden, 32 intermediate, 2 heads of 8, and 64 tokens, in f32.
TEST(LayoutGraph, PartsHoldTheirWeightsAndStates) {
  const Case c = program::make_case(program::toy_request(), program::toy_model(), {});
  const LayoutGraph graph = draw_layout(program::lower_case(c), 0);
  const std::int64_t kv = 16 * c.job.model.kv_heads * c.job.model.head_size, mlp = 16 * 32;
  const std::int64_t layer =
      padded({/*q=*/16 * 16, kv, kv, /*o=*/16 * 16, mlp, mlp, mlp, /*norms=*/16, 16});
  const std::int64_t embedding = padded({64 * 16}), head = padded({64 * 16, /*norm=*/16});
  EXPECT_EQ(always(part_of(graph, "embedding"), Category::kWeights), 4 * embedding);
  EXPECT_EQ(always(part_of(graph, "layers"), Category::kWeights), 2 * 4 * layer);
  EXPECT_EQ(always(part_of(graph, "head and loss"), Category::kWeights), 4 * head);
  EXPECT_EQ(always(part_of(graph, "optimizer"), Category::kOptimizer),
            /*two moments=*/2 * 4 * (embedding + 2 * layer + head));
  EXPECT_EQ(part_of(graph, "layers").repeats, 2);
  EXPECT_EQ(part_of(graph, "inputs").holds.front().place, Place::kHost);
}

TEST(LayoutGraph, WhatLivesAcrossStepsAddsUp) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const Case c = program::random_case(seed);
    const StepProgram program = program::lower_case(c);
    Bytes device, host;
    for (const LayoutPart& part : draw_layout(program, 0).parts) {
      for (const Holding& holding : part.holds) {
        if (holding.held != Held::kAlways) continue;
        (holding.place == Place::kDevice ? device : host) += holding.bytes;
      }
    }
    EXPECT_EQ(device, program.persistent[static_cast<std::size_t>(Place::kDevice)])
        << "seed " << seed << ": " << describe(c);
    EXPECT_EQ(host, program.persistent[static_cast<std::size_t>(Place::kHost)])
        << "seed " << seed << ": " << describe(c);
  }
}

// Values go down the model, gradients up; whatever is recomputed, sharded or accumulated.
TEST(LayoutGraph, FlowsAreThoseOfATrainingStep) {
  using Way = std::tuple<std::string, std::string, Flow>;
  const std::set<Way> known = {
      {"inputs", "embedding", Flow::kForward},       {"inputs", "layers", Flow::kForward},
      {"inputs", "head and loss", Flow::kForward},   {"embedding", "layers", Flow::kForward},
      {"layers", "head and loss", Flow::kForward},   {"head and loss", "layers", Flow::kBackward},
      {"layers", "embedding", Flow::kBackward},      {"inputs", "embedding", Flow::kBackward},
      {"embedding", "optimizer", Flow::kUpdate},     {"layers", "optimizer", Flow::kUpdate},
      {"head and loss", "optimizer", Flow::kUpdate}, {"optimizer", "other ranks", Flow::kTransfer}};
  // Weights that are gathered, and what goes from stage to stage.
  const std::set<std::string> sending = {"embedding", "layers", "head and loss"};
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const Case c = program::random_case(seed);
    const LayoutGraph graph = draw_layout(program::lower_case(c), 0);
    std::set<Way> found;
    for (const LayoutFlow& flow : graph.flows) {
      const Way way = {graph.parts[static_cast<std::size_t>(flow.from)].name,
                       graph.parts[static_cast<std::size_t>(flow.to)].name, flow.flow};
      found.insert(way);
      EXPECT_GT(flow.bytes, Bytes{});
      if (flow.flow == Flow::kShared) {
        EXPECT_TRUE(c.job.model.tied_embeddings) << "seed " << seed;
        continue;
      }
      if (flow.flow == Flow::kTransfer && sending.contains(std::get<0>(way))) {
        EXPECT_TRUE(c.strategy.zero == 3 || c.job.stages() > 1) << "seed " << seed;
        continue;
      }
      EXPECT_TRUE(known.contains(way)) << std::get<0>(way) << " to " << std::get<1>(way)
                                       << ", seed " << seed << ": " << describe(c);
    }
    EXPECT_TRUE(found.contains({"embedding", "layers", Flow::kForward})) << "seed " << seed;
    EXPECT_TRUE(found.contains({"layers", "optimizer", Flow::kUpdate})) << "seed " << seed;
    EXPECT_EQ(found.contains({"head and loss", "layers", Flow::kBackward}), c.job.stages() == 1)
        << "seed " << seed;
    EXPECT_EQ(found.contains({"optimizer", "other ranks", Flow::kTransfer}), c.job.ranks() > 1)
        << "seed " << seed << ": " << describe(c);
  }
}

}  // namespace
}  // namespace ftplan::estimator

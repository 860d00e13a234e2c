#include "program/verify.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/category.h"
#include "program/attributes.h"
#include "program/clone.h"
#include "program/lifetimes.h"
#include "program/op.h"
#include "program/ops/collective.h"
#include "program/print.h"
#include "program/step_program.h"
#include "program/walk.h"
#include "tests/program/support.h"

// Each test breaks a good program in one place, for every place there is, and expects a report.

namespace ftplan::program {
namespace {

// Layouts that together have every kind of instruction that a training step has.
std::vector<Case> layouts() {
  ModelConfig model = toy_model();
  model.layers = 4;
  JobRequest full = toy_request();
  JobRequest lora = full;
  lora.method = {.method = Method::kLora, .rank = 2, .dropout = 0.1, .precision = Precision::kBf16};
  JobRequest full_on_two = full;
  full_on_two.devices.gpus = "2xcpu";
  JobRequest lora_on_two = lora;
  lora_on_two.devices.gpus = "2xcpu";
  ModelConfig tied = model;
  tied.tied_embeddings = true;
  tied.attention_bias = true;
  full.method.precision = Precision::kBf16;
  JobRequest sgd = full;
  sgd.method.optimizer = Optimizer::kSgd;
  sgd.training.momentum = 0.9;
  // Of 70 values in a row, tensors of whole blocks and others, with 8-bit states and without.
  ModelConfig wide = model;
  wide.hidden = 70;
  wide.intermediate = 80;
  wide.layers = 2;
  JobRequest in_8_bits = full_on_two;
  in_8_bits.method.optimizer = Optimizer::kAdamw8bit;
  return {
      make_case(full, tied, {.accumulation = 2, .loss_chunk = 4}),
      make_case(full, tied, {.checkpointing = {.every = 1}}),
      make_case(full_on_two, tied, {.zero = 1}),
      make_case(full_on_two, model, {.accumulation = 3, .checkpointing = {.every = 1}, .zero = 1}),
      make_case(lora, model, {.accumulation = 2, .checkpointing = {.every = 2}}),
      make_case(lora_on_two, model, {.zero = 1}),
      make_case(full_on_two, model, {.accumulation = 2, .stage_layers = {1, 3}}),
      make_case(sgd, model, {}),
      make_case(in_8_bits, wide, {.zero = 1}),
      make_case(full_on_two, tied, {.accumulation = 3}),
      make_case(full_on_two, tied, {.accumulation = 3, .zero = 2}),
      make_case(lora_on_two, model, {.accumulation = 2, .checkpointing = {.every = 2}, .zero = 2})};
}

class Verify : public testing::TestWithParam<std::size_t> {
 protected:
  void SetUp() override {
    case_ = layouts()[GetParam()];
    good_ = lower_case(case_);
    ASSERT_EQ(verify_program(good_), "");
  }

  // Expects a report on `good_` after `breaks`.
  void expect_report(const std::string& what, const std::function<void(StepProgram&)>& breaks) {
    StepProgram broken = good_;
    breaks(broken);
    EXPECT_NE(verify_program(broken), "") << what;
    ++broken_;
  }

  [[nodiscard]] std::string text(std::size_t id) const {
    return print(good_, good_.instructions[id]);
  }

  // Instructions that run.
  [[nodiscard]] std::vector<std::size_t> running() const {
    std::vector<std::size_t> ids;
    for (const InstructionId id : instructions_below(good_, good_.segment(good_.root).body)) {
      ids.push_back(static_cast<std::size_t>(id));
    }
    return ids;
  }

  static void remove(StepProgram& program, std::size_t id) {
    for (Segment& segment : program.segments) {
      std::erase(segment.body, Node{static_cast<std::int32_t>(id), false});
    }
  }

  Case case_;
  StepProgram good_;
  int broken_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Layouts, Verify, testing::Range(std::size_t{0}, layouts().size()));

TEST_P(Verify, ReportsEachRemovedWait) {
  for (const std::size_t id : running()) {
    for (int i = 0; i < good_.instructions[id].waits.size(); ++i) {
      if (only_receives_await(good_, good_.instructions[id].waits[i].event)) continue;
      expect_report("without a wait: " + text(id), [&](StepProgram& program) {
        auto& waits = program.instructions[id].waits;
        const auto all = waits;
        waits.clear();
        for (int k = 0; k < all.size(); ++k) {
          if (k != i) waits.push_back(all[k]);
        }
      });
    }
  }
  EXPECT_EQ(broken_ > 0, case_.job.ranks() > 1);
}

TEST_P(Verify, ReportsEachRemovedSignal) {
  for (const std::size_t id : running()) {
    const EventId event = good_.instructions[id].signals;
    if (event == kNone || only_receives_await(good_, event)) continue;
    expect_report("without its signal: " + text(id),
                  [&](StepProgram& program) { program.instructions[id].signals = kNone; });
  }
  EXPECT_EQ(broken_ > 0, case_.job.ranks() > 1);
}

TEST(VerifyRanks, ReportsTransfersThatDoNotMeet) {
  JobRequest request = toy_request();
  request.devices.gpus = "3xcpu";
  ModelConfig model = toy_model();
  model.layers = 4;
  const Case staged = make_case(request, model, {.accumulation = 2, .stage_layers = {1, 2, 1}});
  const std::vector<StepProgram> good = lower_ranks(staged);
  ASSERT_EQ(verify_ranks(good), "");
  int broken = 0;
  for (std::size_t rank = 0; rank < good.size(); ++rank) {
    for (const InstructionId id :
         instructions_below(good[rank], good[rank].segment(good[rank].root).body)) {
      if (!is_transfer(good[rank].instruction(id).op)) continue;
      std::vector<StepProgram> programs = good;
      for (Segment& segment : programs[rank].segments) std::erase(segment.body, Node{id, false});
      EXPECT_NE(verify_ranks(programs), "") << print(good[rank], good[rank].instruction(id));
      programs = good;
      programs[rank].instructions[static_cast<std::size_t>(id)].attributes =
          static_cast<AttributesId>(programs[rank].attributes.size());
      programs[rank].attributes.emplace_back(
          PeerAttributes{static_cast<std::int64_t>((rank + 2) % 3)});
      const auto peer = good[rank].attributes_of<PeerAttributes>(good[rank].instruction(id)).rank;
      if (peer != static_cast<std::int64_t>((rank + 2) % 3)) {
        EXPECT_NE(verify_ranks(programs), "") << "to another rank";
      }
      ++broken;
    }
  }
  EXPECT_EQ(broken, 16);  // two passes, and four transfers at each of the two cuts, on both sides
}

TEST_P(Verify, ReportsEachPairOfStoragesThatAreLiveTogetherAndOverlap) {
  // On one stream, where lives end with their last use.
  StepProgram in_order = good_;
  for (Instruction& instruction : in_order.instructions) instruction.stream = Stream::kCompute;
  const Walk steps = walk(in_order, Sampling::kAll);
  const std::vector<Life> lives = lives_of(in_order, steps);
  std::vector<std::pair<StorageId, StorageId>> pairs;
  for (const Life& a : lives) {
    for (const Life& b : lives) {
      const bool together = a.begin < b.end && b.begin < a.end && a.storage < b.storage;
      if (together && good_.storages[static_cast<std::size_t>(a.storage)].place ==
                          good_.storages[static_cast<std::size_t>(b.storage)].place) {
        pairs.emplace_back(a.storage, b.storage);
      }
    }
  }
  std::sort(pairs.begin(), pairs.end());
  pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
  for (const auto& [a, b] : pairs) {
    const auto& first = good_.storages[static_cast<std::size_t>(a)];
    const auto& second = good_.storages[static_cast<std::size_t>(b)];
    expect_report(std::string(first.name) + " #" + std::to_string(a) + " on " + second.name + " #" +
                      std::to_string(b),
                  [&](StepProgram& program) {
                    program.storages[static_cast<std::size_t>(a)].offset = second.offset;
                    program.storages[static_cast<std::size_t>(a)].stride = second.stride;
                  });
  }
  EXPECT_GT(broken_, 20);
}

TEST_P(Verify, ReportsEachDroppedContributionToAGradient) {
  for (const std::size_t id : running()) {
    const Instruction& instruction = good_.instructions[id];
    if (instruction.phase == Phase::kOptimizer) continue;
    for (int i = 0; i < instruction.out.size(); ++i) {
      const Operand out = instruction.out[i];
      if (!out || good_.storage_of(out.tensor).category != Category::kGradients) continue;
      expect_report("not made: out " + std::to_string(i) + " of " + text(id),
                    [&](StepProgram& program) {
                      if (instruction.out.size() == 1) return remove(program, id);
                      program.instructions[id].out[i] = {};
                    });
    }
  }
  EXPECT_GT(broken_, 10);
}

TEST_P(Verify, ReportsEachContributionThatReplacesAnother) {
  for (const std::size_t id : running()) {
    const Instruction& instruction = good_.instructions[id];
    for (int i = 0; i < instruction.out.size(); ++i) {
      const unsigned bit = 1U << static_cast<unsigned>(i);
      const Operand out = instruction.out[i];
      if ((instruction.accumulate & bit) == 0 || !out) continue;
      if (good_.storage_of(out.tensor).category != Category::kGradients) continue;
      expect_report("not added: " + text(id), [&](StepProgram& program) {
        program.instructions[id].accumulate &= static_cast<std::uint8_t>(~bit);
      });
    }
  }
  // Added to are gradients of later micro-steps, or shards of them, and of weights used twice.
  EXPECT_EQ(broken_ > 0, case_.strategy.accumulation > 1 || case_.job.model.tied_embeddings);
}

TEST_P(Verify, ReportsEachUpdateThatIsDoneTwiceOrNotAtAll) {
  for (const std::size_t id : running()) {
    if (!is_update(good_.instructions[id].op)) continue;
    expect_report("twice: " + text(id), [&](StepProgram& program) {
      for (Segment& segment : program.segments) {
        const Node node{static_cast<std::int32_t>(id), false};
        const auto at = std::find(segment.body.begin(), segment.body.end(), node);
        if (at != segment.body.end()) segment.body.insert(at, node);
      }
    });
    expect_report("never: " + text(id), [&](StepProgram& program) { remove(program, id); });
  }
  EXPECT_GT(broken_, 0);
}

TEST_P(Verify, ReportsEachWrongShape) {
  std::vector<bool> used(good_.tensors.size(), false);
  for (const std::size_t id : running()) {
    const Instruction& instruction = good_.instructions[id];
    for (const Operands* list : {&instruction.in, &instruction.out, &instruction.update}) {
      for (const Operand& operand : *list) {
        if (operand) used[static_cast<std::size_t>(operand.tensor)] = true;
      }
    }
  }
  for (std::size_t t = 0; t < used.size(); ++t) {
    if (!used[t] || good_.tensors[t].shape.elements() < 2) continue;
    expect_report(
        "one column less: tensor " + std::to_string(t) + " of " +
            good_.storage_of(static_cast<TensorId>(t)).name + " " + good_.tensors[t].shape.text(),
        [&](StepProgram& program) {
          Tensor& tensor = program.tensors[t];
          Shape shape;
          for (int axis = 0; axis < tensor.shape.rank(); ++axis) {
            shape.push_back(tensor.shape[axis] - (axis + 1 == tensor.shape.rank() ? 1 : 0));
          }
          tensor.shape = shape;
        });
  }
  EXPECT_GT(broken_, 50);
}

TEST_P(Verify, ReportsEachRemovedGather) {
  for (const std::size_t id : running()) {
    if (good_.instructions[id].stream != Stream::kGather) continue;
    expect_report("without " + text(id), [&](StepProgram& program) { remove(program, id); });
  }
  EXPECT_EQ(broken_ > 0, case_.strategy.zero == 3);
}

TEST(VerifyRanks, ReportsCollectivesThatDoNotMatch) {
  const Case c = layouts()[2];
  std::vector<StepProgram> ranks = lower_ranks(c);
  ASSERT_EQ(verify_ranks(ranks), "");
  for (Segment& segment : ranks[1].segments) {
    std::erase_if(segment.body, [&](const Node& node) {
      return !node.is_segment && ranks[1].instruction(node.id).op == Op::kAllReduce;
    });
  }
  EXPECT_NE(verify_ranks(ranks), "");
}

}  // namespace
}  // namespace ftplan::program

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/method.h"
#include "core/model_config.h"
#include "program/attributes.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/run_files.h"
#include "program/step_program.h"
#include "program/verify.h"
#include "tests/program/support.h"

// Which states each optimizer holds, on the toy model: hidden 16, intermediate 32, 64 tokens known,
// 2 layers, 2 heads of 8 and 1 kv head. Tensors of units are padded to 256 elements.

namespace ftplan::program {
namespace {

// Elements of all trained units, with padding.
constexpr std::int64_t kPadded = /*embedding, head=*/2 * 64 * 16 + /*final norm=*/256 +
                                 /*layers=*/2 * (/*q, k, v, o, norms=*/6 * 256 +
                                                 /*gate, up, down=*/3 * 32 * 16);

Case case_of(Optimizer optimizer, double momentum, Precision precision) {
  JobRequest request = toy_request();
  request.method.optimizer = optimizer;
  request.method.precision = precision;
  request.training.momentum = momentum;
  return make_case(request, toy_model(), {});
}

std::int64_t state_bytes(const Case& c) {
  Bytes sum;
  for (const Storage& storage : lower_case(c).storages) {
    if (storage.category == Category::kOptimizer) sum += storage.copies.count * storage.size;
  }
  return sum.value;
}

std::vector<std::string> parts_of_head(const Case& c) {
  std::vector<std::string> names;
  for (const StateTensor& tensor : checkpoint_tensors(lower_case(c))) {
    if (tensor.spec.name.starts_with("head.")) names.push_back(tensor.spec.name);
  }
  return names;
}

TEST(Optimizers, AdamwHoldsTwoMoments) {
  const Case c = case_of(Optimizer::kAdamw, 0, Precision::kFp32);
  EXPECT_EQ(state_bytes(c), /*two f32=*/8 * kPadded);
  EXPECT_EQ(parts_of_head(c),
            (std::vector<std::string>{"head.values", "head.moment1", "head.moment2"}));
}

TEST(Optimizers, SgdHoldsItsMomentum) {
  const Case c = case_of(Optimizer::kSgd, 0.9, Precision::kFp32);
  EXPECT_EQ(state_bytes(c), /*one f32=*/4 * kPadded);
  EXPECT_EQ(parts_of_head(c), (std::vector<std::string>{"head.values", "head.moment1"}));
}

TEST(Optimizers, SgdWithoutMomentumHoldsNothing) {
  const Case c = case_of(Optimizer::kSgd, 0, Precision::kFp32);
  EXPECT_EQ(state_bytes(c), 0);
  EXPECT_EQ(parts_of_head(c), std::vector<std::string>{"head.values"});
}

TEST(Optimizers, MastersOf16BitWeightsStay) {
  // In bf16 norms are f32 and have no master, in units of their own: 2 of a layer.
  const std::int64_t norms = /*final=*/256 + /*layers=*/2 * 2 * 256;
  EXPECT_EQ(state_bytes(case_of(Optimizer::kSgd, 0, Precision::kBf16)),
            /*f32=*/4 * (kPadded - norms));
}

TEST(Optimizers, EachWeightIsUpdatedByTheOpOfItsOptimizer) {
  for (const auto& [optimizer, op] :
       {std::pair{Optimizer::kAdamw, Op::kAdamw}, std::pair{Optimizer::kSgd, Op::kSgd}}) {
    const StepProgram program = lower_case(case_of(optimizer, 0, Precision::kFp32));
    std::int64_t updates = 0;
    for (const Instruction& instruction : program.instructions) {
      if (!is_update(instruction.op)) continue;
      EXPECT_EQ(instruction.op, op);
      ++updates;
    }
    // Embedding; head and final norm; what decays of a layer, and its norms.
    EXPECT_EQ(updates, 1 + 2 + 2);
  }
}

// Of the toy model in f32, a layer's: 6 x 256 and 3 x 32 x 16 elements.
TEST(UpdateInBackward, HoldsOneLayersGradientAtATime) {
  JobRequest request = toy_request();
  request.training.clip = 0;
  request.training.update_in_backward = true;
  const StepProgram program = lower_case(make_case(request, toy_model(), {}));
  EXPECT_EQ(verify_program(program), "");
  for (const TrainedUnit& unit : program.units) {
    const Storage& gradients = program.storage_of(unit.gradients);
    EXPECT_EQ(gradients.copies.count, 1) << unit.name;
    EXPECT_EQ(gradients.region, Region::kWork) << unit.name;
    if (!unit.per_layer) continue;
    EXPECT_EQ(gradients.size.value, 4 * (6 * 256 + 3 * 32 * 16));
  }
}

TEST(UpdateInBackward, IsRefusedWhereLaterGradientsDecide) {
  JobRequest request = toy_request();
  request.training.update_in_backward = true;
  const auto reason = [&](const JobRequest& refused) {
    const auto job = validate(refused, toy_model(), std::nullopt);
    return job ? std::string() : job.error().text();
  };
  EXPECT_NE(reason(request).find("use --clip 0"), std::string::npos);
  request.training.clip = 0;
  EXPECT_EQ(reason(request), "");
  JobRequest accumulates = request;
  accumulates.training.accumulation = 2;
  EXPECT_NE(reason(accumulates).find("use --accumulation 1"), std::string::npos);
  JobRequest scales = request;
  scales.method.precision = Precision::kFp16;
  EXPECT_NE(reason(scales).find("use --precision bf16 or fp32"), std::string::npos);
  JobRequest ranks = request;
  ranks.devices.gpus = "2xcpu";
  EXPECT_NE(reason(ranks).find("several ranks"), std::string::npos);
}

TEST(UpdateInBackward, TakesTheWholeBatchInOnePass) {
  JobRequest request = toy_request();
  request.training.clip = 0;
  request.training.update_in_backward = true;
  EXPECT_EQ(validate(request, toy_model(), std::nullopt)->micro_batch_choices,
            std::vector<std::int64_t>{16});
  request.training.micro_batch = 3;
  const auto job = validate(request, toy_model(), std::nullopt);
  ASSERT_TRUE(job);
  EXPECT_EQ(job->global_batch, 3);
  EXPECT_EQ(job->micro_batch_choices, std::vector<std::int64_t>{3});
}

// hidden 70, intermediate 80: gate, up and down have 5,600 elements, the head 4,480.
ModelConfig wide_model() {
  ModelConfig model = toy_model();
  model.hidden = 70;
  model.intermediate = 80;
  return model;
}

Case in_8_bits(std::int64_t ranks = 1, Precision precision = Precision::kFp32,
               Optimizer optimizer = Optimizer::kAdamw8bit) {
  JobRequest request = toy_request();
  request.method.optimizer = optimizer;
  request.method.precision = precision;
  request.devices.gpus = ranks == 1 ? "cpu" : std::to_string(ranks) + "xcpu";
  return make_case(request, wide_model(), {.zero = ranks > 1 ? 1 : 0});
}

TEST(Optimizers, EightBitStatesAreTwoBytesAndTwoScalesABlock) {
  const std::int64_t large = /*head, 4,480 padded=*/4608 +
                             /*layers=*/2 * /*gate, up, down, 5,600 padded=*/3 * 5632;
  // Less than 4,096 elements, and the embedding: f32.
  const std::int64_t small = /*embedding=*/4608 + /*final norm=*/256 +
                             /*layers=*/2 * (/*q, o, 1,120 padded=*/2 * 1280 +
                                             /*k, v, 560 padded=*/2 * 768 + /*norms=*/2 * 256);
  EXPECT_EQ(state_bytes(in_8_bits()),
            /*codes=*/2 * large + /*scales=*/2 * 4 * large / 256 + /*f32 moments=*/8 * small);
  EXPECT_EQ(parts_of_head(in_8_bits()),
            (std::vector<std::string>{"head.values", "head.moment1", "head.moment2", "head.scale1",
                                      "head.scale2"}));
}

// Blocks of one unit that a rank updates, as first and last elements that are not padding.
std::vector<std::pair<std::int64_t, std::int64_t>> blocks_of(const StepProgram& program,
                                                             const char* name) {
  std::vector<std::pair<std::int64_t, std::int64_t>> blocks;
  for (const TrainedUnit& unit : program.units) {
    if (std::string(unit.name) != name) continue;
    for (const Instruction& instruction : program.instructions) {
      if (instruction.op != Op::kAdamw8bit) continue;
      const Tensor& w = program.tensor(instruction.update[0]);
      if (w.storage != program.tensor(unit.weights).storage) continue;
      const std::int64_t first = w.offset.value / size_of(w.dtype).value;
      const std::int64_t end =
          first + w.shape.elements() - program.attributes_of<AdamwAttributes>(instruction).padding;
      for (std::int64_t at = first; at < end; at += 256)
        blocks.emplace_back(at, std::min(at + 256, end));
    }
  }
  std::sort(blocks.begin(), blocks.end());
  return blocks;
}

TEST(Optimizers, BlocksOf8BitStatesDoNotDependOnTheCut) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    const auto whole = blocks_of(lower_case(in_8_bits(1, precision)), "layer");
    ASSERT_EQ(whole.size(), /*gate, up, down=*/3 * /*5,600 / 256=*/22U);
    EXPECT_EQ(whole[21], std::pair(std::int64_t{21 * 256}, std::int64_t{5600}));
    EXPECT_EQ(whole[22], std::pair(std::int64_t{5632}, std::int64_t{5632 + 256}));
    for (const std::int64_t ranks : {2, 3, 8}) {
      std::vector<std::pair<std::int64_t, std::int64_t>> cut;
      for (std::int64_t rank = 0; rank < ranks; ++rank) {
        const auto blocks = blocks_of(lower_case(in_8_bits(ranks, precision), rank), "layer");
        cut.insert(cut.end(), blocks.begin(), blocks.end());
      }
      EXPECT_EQ(cut, whole) << ranks;
    }
  }
}

TEST(Optimizers, PagedStatesLiveOnTheHostAndMastersDoNot) {
  const Case paged = in_8_bits(1, Precision::kBf16, Optimizer::kPagedAdamw8bit);
  const Case whole = in_8_bits(1, Precision::kBf16);
  EXPECT_EQ(state_bytes(paged), state_bytes(whole));
  std::int64_t states = 0;
  for (const Storage& storage : lower_case(paged).storages) {
    if (storage.category != Category::kOptimizer) continue;
    const bool master = std::string(storage.name) == "master";
    EXPECT_EQ(storage.place, master ? Place::kDevice : Place::kHost) << storage.name;
    states += master ? 0 : 1;
  }
  EXPECT_GT(states, 0);
}

TEST(Optimizers, OnAGpuPagedStatesTakeTwoPagesOfScratch) {
  Case c = in_8_bits(1, Precision::kFp32, Optimizer::kPagedAdamw8bit);
  c.machine.backend = Backend::kCuda;
  const auto scratch_of = [](const StepProgram& program, const Instruction& instruction,
                             const Machine& machine) {
    return row_of(instruction.op).scratch({program, instruction}, machine).bytes.value;
  };
  StepProgram program = lower_case(c);
  for (Instruction& instruction : program.instructions) {
    if (instruction.op != Op::kAdamw8bit) continue;
    Tensor& w = program.tensors[static_cast<std::size_t>(instruction.update[0].tensor)];
    const std::int64_t count = w.shape.elements();
    const std::int64_t states = /*codes=*/2 * count + /*scales=*/2 * 4 * count / 256;
    EXPECT_EQ(scratch_of(program, instruction, c.machine), 2 * states) << "less than a page";
    EXPECT_EQ(scratch_of(program, instruction, {}), 0) << "on a CPU";
    w.shape = {3 << 20};  // as if the states were those of three pages
    EXPECT_EQ(scratch_of(program, instruction, c.machine), 2 * ((states + 2) / 3));
  }
  Case whole = in_8_bits();
  whole.machine.backend = Backend::kCuda;
  const StepProgram resident = lower_case(whole);
  for (const Instruction& instruction : resident.instructions) {
    if (!is_update(instruction.op)) continue;
    EXPECT_EQ(scratch_of(resident, instruction, whole.machine), 0);
  }
}

}  // namespace
}  // namespace ftplan::program

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "core/category.h"
#include "core/method.h"
#include "program/op.h"
#include "program/run_files.h"
#include "program/step_program.h"
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

}  // namespace
}  // namespace ftplan::program

#include "program/lifetimes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "program/clone.h"
#include "program/emitter.h"
#include "program/happens_before.h"
#include "program/occupancy.h"
#include "program/op.h"
#include "program/step_program.h"
#include "program/walk.h"

namespace ftplan::program {
namespace {

// A program by hand: copies between tensors of 16 f32, 64 bytes.
class ByHand : public testing::Test {
 protected:
  ByHand() : emit_(program_) { emit_.open({}); }

  TensorId tensor(Region region = Region::kWork, Copies copies = {}) {
    const StorageId storage =
        emit_.storage({.size = {64}, .region = region, .copies = copies, .name = "value"});
    return emit_.tensor(storage, {16}, DType::kF32);
  }
  Instruction& copy(Operand from, Operand to) {
    return emit_.emit({.op = Op::kCopy, .in = {from}, .out = {to}});
  }
  Instruction& define(Operand to) { return emit_.emit({.op = Op::kZero, .out = {to}}); }

  // (begin, end) of all lives of a tensor's storage, in order.
  std::vector<std::pair<std::int32_t, std::int32_t>> lives(TensorId id) {
    std::vector<std::pair<std::int32_t, std::int32_t>> found;
    const Walk steps = walk(program_, Sampling::kAll);
    for (const Life& life : lives_of(program_, steps)) {
      if (life.storage == program_.tensor(id).storage) found.emplace_back(life.begin, life.end);
    }
    return found;
  }

  StepProgram program_;
  Emitter emit_;
};

using Lives = std::vector<std::pair<std::int32_t, std::int32_t>>;

TEST_F(ByHand, AValueLivesFromItsDefinitionToItsLastUse) {
  const TensorId a = tensor();
  const TensorId b = tensor();
  define({a});     // 0
  copy({a}, {b});  // 1
  copy({a}, {b});  // 2
  define({b});     // 3
  EXPECT_EQ(lives(a), (Lives{{0, 2}}));
}

TEST_F(ByHand, ANewDefinitionBeginsANewLife) {
  const TensorId a = tensor();
  define({a});            // 0
  define({a});            // 1
  copy({a}, {tensor()});  // 2
  EXPECT_EQ(lives(a), (Lives{{0, 0}, {1, 2}}));
}

TEST_F(ByHand, ACopyPerLayerLivesFromItsLayerToThePassBack) {
  const TensorId kept = tensor(Region::kStack, {.count = 3});
  emit_.open({.repeat = 3, .axis = Axis::kLayer});
  define({kept});  // 0 1 2
  emit_.close();
  emit_.open({.repeat = 3, .axis = Axis::kLayer, .descending = true});
  copy({kept}, {tensor()});  // 3 4 5, layers 2 1 0
  emit_.close();
  EXPECT_EQ(lives(kept), (Lives{{0, 5}, {1, 4}, {2, 3}}));
}

TEST_F(ByHand, PersistentStoragesHaveNoLives) {
  const TensorId weight = tensor(Region::kPersistent);
  copy({weight}, {tensor()});
  EXPECT_TRUE(lives(weight).empty());
}

TEST_F(ByHand, AUseOnTheOtherStreamLastsUntilItIsWaitedFor) {
  const TensorId a = tensor();
  const EventId done = emit_.event();
  define({a});                                   // 0
  Instruction& travels = copy({a}, {tensor()});  // 1
  travels.stream = Stream::kCommunication;
  travels.signals = done;
  define({tensor()});                             // 2
  define({tensor()}).waits.push_back({done, 0});  // 3
  EXPECT_EQ(lives(a), (Lives{{0, 3}}));
}

TEST_F(ByHand, StreamsAreOrderedByEventsOnly) {
  const TensorId a = tensor();
  const EventId done = emit_.event();
  Instruction& first = define({a});  // 0
  first.stream = Stream::kCommunication;
  first.signals = done;
  define({tensor()});                             // 1
  define({tensor()}).waits.push_back({done, 0});  // 2
  const HappensBefore before(program_, walk(program_, Sampling::kAll));
  EXPECT_FALSE(before(0, 1));
  EXPECT_TRUE(before(0, 2));
  EXPECT_TRUE(before(1, 2));
}

TEST_F(ByHand, OnlyWaitsThatAddSomethingAreUseful) {
  const EventId done = emit_.event();
  Instruction& first = define({tensor()});
  first.stream = Stream::kCommunication;
  first.signals = done;
  define({tensor()}).waits.push_back({done, 0});  // 1
  define({tensor()}).waits.push_back({done, 0});  // 2: seen to by 1
  const UsefulEvents useful = useful_events(program_, walk(program_, Sampling::kAll));
  EXPECT_EQ(useful.waits, (std::vector<std::uint8_t>{0, 1, 0}));
  EXPECT_EQ(useful.signals, (std::vector<bool>{true, false, false}));
}

// Twenty layers push 64 bytes each; the sampled walk leaves most of them out and counts them all
// the same.
TEST_F(ByHand, OccupancyCountsLayersThatTheWalkLeavesOut) {
  constexpr std::int32_t kLayers = 20;
  const TensorId kept = tensor(Region::kStack, {.count = kLayers});
  emit_.open({.repeat = kLayers, .axis = Axis::kLayer});
  define({kept});
  emit_.close();
  emit_.open({.repeat = kLayers, .axis = Axis::kLayer, .descending = true});
  emit_.emit({.op = Op::kCopy, .in = {{kept}}, .out = {{kept}}});
  emit_.close();
  const Walk sampled = walk(program_, Sampling::kEnds);
  EXPECT_LT(sampled.steps.size(), 2U * kLayers);
  std::int64_t peak = 0;
  for (const CategoryCounts& live :
       occupancy(program_, sampled, lives_of(program_, sampled), Place::kDevice)) {
    peak = std::max(peak, sum_of(live));
  }
  EXPECT_EQ(peak, /*layers=*/20 * 64);
}

}  // namespace
}  // namespace ftplan::program

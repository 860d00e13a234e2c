#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/enums.h"
#include "core/json.h"
#include "core/machine.h"
#include "core/method.h"
#include "core/result.h"
#include "core/timeline.h"
#include "core/units.h"
#include "estimator/predict.h"
#include "executor/calibrate.h"
#include "executor/call.h"
#include "executor/feeding.h"
#include "executor/rank_run.h"
#include "executor/scratch.h"
#include "executor/session.h"
#include "executor/torch_runtime.h"
#include "executor/trace.h"
#include "program/lifetimes.h"
#include "program/lowering.h"
#include "program/occupancy.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/step_program.h"
#include "program/walk.h"
#include "tests/executor/support.h"

// Predicted bytes equal measured bytes, and a program or a kernel that is off by a line makes them
// differ.

namespace ftplan::executor {
namespace {

using program::Op;
using program::ProgramKind;
using program::StepProgram;

// The first step of a run, its session chosen by hand.
struct FirstStep {
  // On the rows of step `of`, which decide the padded length.
  explicit FirstStep(const World& world, std::int64_t of = 0)
      : run(world.create()),
        feeder(world.feeder()),
        rows(feeder.rows_of_step(of)),
        fill(feeder.fill(rows)),
        scalars(run->scalars_of(world.input(0, rows))),
        key{ProgramKind::kTrain, rows.length},
        of_world(world) {
    run->set_fill(&fill);
  }

  [[nodiscard]] StepProgram& program() const { return run->program(key); }
  void load() const { need(run->load(*of_world.loader)); }

  // Runs the step and measures it.
  PlaceBytes measure() {
    load();
    Trace trace(program(), run->arenas());
    need(run->session(key).run(scalars, &trace));
    PlaceBytes bytes = trace.at_peak(Place::kDevice);
    bytes.peak = program().arena[static_cast<std::size_t>(Place::kDevice)];
    bytes.unused = bytes.peak - bytes.live();
    return bytes;
  }

  [[nodiscard]] PlaceBytes predicted() const {
    const Timeline timeline = estimator::simulate(program(), 0);
    return timeline.instants[static_cast<std::size_t>(timeline.peak)].device;
  }

  std::unique_ptr<RankRun> run;
  Feeder feeder;
  StepRows rows;
  FillBatch fill;
  Scalars scalars;
  RankRun::Key key;
  const World& of_world;
};

std::string text_of(const PlaceBytes& bytes) { return to_json(bytes).dump(); }

// ---- scratch ----

struct Use {
  std::string operation;
  std::string key;
  program::Scratch declared;
  std::optional<Bytes> used;  ///< empty: the operation failed
  std::string error;
};

// Runs a step of each padded length one instruction at a time, going on after failures.
std::vector<Use> scratch_uses(const World& world, Bytes withheld) {
  struct LastUse final : public Observer {
    void touch(std::int32_t, std::int32_t, program::StorageId, std::int32_t, const std::byte*,
               Bytes, Access) override {}
    void scratch(program::Stream, Bytes used) override { last = used; }
    Bytes last;
  };
  std::vector<Use> uses;
  std::set<std::int64_t> lengths;
  for (std::int64_t of = 0; of < world.feeder().steps_per_epoch(); ++of) {
    if (!lengths.insert(world.feeder().rows_of_step(of).length).second) continue;
    FirstStep step(world, of);
    step.load();
    step.run->session_options().withheld_scratch = withheld;
    Session& session = step.run->session(step.key);
    for (std::size_t i = 0; i < session.walk().steps.size(); ++i) {
      const auto index = static_cast<std::int32_t>(i);
      const program::Instruction& instruction = session.instruction(index);
      const program::OpView view{step.program(), instruction};
      LastUse observer;
      const auto ok = session.execute(index, step.scalars, &observer);
      Use use{.operation = program::name_of(instruction.op),
              .key = program::scratch_key(view),
              .declared = program::row_of(instruction.op).scratch(view, world.machine)};
      if (ok) {
        use.used = observer.last;
      } else {
        use.error = ok.error().text();
      }
      uses.push_back(std::move(use));
    }
  }
  return uses;
}

// The setting, its 16-bit products measured on this machine.
Setting calibrated(Setting setting) {
  const World world(setting);
  setting.scratch = need(measure_scratch(*world.create()));
  return setting;
}

const Setting kFull{.accumulation = 2, .threads = 2};
const Setting kLora{
    .method = Method::kLora, .threads = 2, .checkpointing = {.every = 1}, .dropout = 0.1};
const Setting kFullBf16{.precision = Precision::kBf16, .threads = 2, .tied = true};
const Setting kLoraBf16{
    .method = Method::kLora, .precision = Precision::kBf16, .checkpointing = {.every = 2}};

const Setting kQlora{.method = Method::kQlora, .threads = 2, .checkpointing = {.every = 1}};
const Setting kQloraBf16{.method = Method::kQlora,
                         .precision = Precision::kBf16,
                         .accumulation = 2,
                         .double_quantization = false,
                         .dropout = 0.1};

const Setting kFullFp16{.precision = Precision::kFp16, .threads = 2};
const Setting kQloraFp16{
    .method = Method::kQlora, .precision = Precision::kFp16, .checkpointing = {.every = 2}};

const Setting kInt8Bf16{
    .method = Method::kInt8Lora, .precision = Precision::kBf16, .accumulation = 2, .threads = 2};

class Exactness : public testing::TestWithParam<Setting> {
 protected:
  [[nodiscard]] static Setting setting() { return calibrated(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Settings, Exactness,
                         testing::Values(kFull, kLora, kFullBf16, kLoraBf16, kQlora, kQloraBf16,
                                         kFullFp16, kQloraFp16, kInt8Bf16));

TEST_P(Exactness, DeclaredScratchIsUsedToTheByte) {
  for (const Use& use : scratch_uses(World(setting()), Bytes{})) {
    EXPECT_TRUE(use.declared.exact) << use.operation;
    ASSERT_TRUE(use.used) << use.error;
    EXPECT_EQ(*use.used, use.declared.bytes) << use.operation;
  }
}

TEST_P(Exactness, AnOperationWhoseScratchIsWithheldFailsByItsName) {
  std::set<std::string> failed;
  for (const Use& use : scratch_uses(World(setting()), program::kAlignment)) {
    EXPECT_EQ(use.used.has_value(), use.declared.bytes == Bytes{}) << use.operation;
    if (use.used) continue;
    EXPECT_NE(use.error.find(use.operation + " asked for "), std::string::npos) << use.error;
    failed.insert(use.operation);
  }
  std::set<std::string> expected = {"attention", "attention_backward", "linear_cross_entropy",
                                    "square_sum"};
  if (GetParam().method == Method::kFull)
    expected.merge(std::set<std::string>{"rms_norm_backward", "embed_backward"});
  if (GetParam().method == Method::kQlora)
    expected.merge(std::set<std::string>{"linear_nf4", "linear_nf4_input_gradient"});
  if (GetParam().method == Method::kInt8Lora)
    expected.merge(std::set<std::string>{"linear_int8", "linear_int8_input_gradient"});
  for (const std::string& name : expected) EXPECT_TRUE(failed.contains(name)) << name;
}

TEST_P(Exactness, WithheldScratchIsNoticedBeforeTheFirstStepWhereItWasMeasured) {
  const World world(setting());
  EXPECT_TRUE(check_scratch(*world.create()));
  const auto needs_some = [](const MeasuredScratch& measured) { return measured.bytes.value > 0; };
  const auto& measured = world.machine.scratch;
  if (std::none_of(measured.begin(), measured.end(), needs_some)) return;
  auto run = world.create();
  run->session_options().withheld_scratch = program::kAlignment;
  const auto checked = check_scratch(*run);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code, ErrorCode::kInfeasible);
  EXPECT_NE(checked.error().text().find("linear"), std::string::npos) << checked.error().text();
}

TEST_P(Exactness, AStepEndsWithTheNameOfTheOperationThatNeedsMore) {
  const World world(setting());
  auto run = world.load();
  run->session_options().withheld_scratch = program::kAlignment;
  const Feeder feeder = world.feeder();
  const StepRows rows = feeder.rows_of_step(0);
  const auto output = run->train(rows.length, world.input(0, rows), feeder.fill(rows));
  ASSERT_FALSE(output);
  EXPECT_EQ(output.error().code, ErrorCode::kInfeasible);
  EXPECT_NE(output.error().text().find(" asked for "), std::string::npos) << output.error().text();
}

// ---- bytes ----

TEST_P(Exactness, PredictedBytesEqualMeasuredBytes) {
  const World world(setting());
  auto run = world.load();
  for (std::int64_t i = 0; i < world.feeder().steps_per_epoch(); ++i) (void)world.train(*run, i);
  const auto predicted = need(
      estimator::predict_rank({world.job, world.strategy, world.machine, world.data.facts, 0}, 0));
  EXPECT_EQ(text_of(run->measured().device), text_of(predicted.device));
  EXPECT_EQ(text_of(run->measured().host), text_of(predicted.host));
}

// Storages that live while most bytes do.
std::set<program::StorageId> live_at_peak(const StepProgram& program) {
  const program::Walk walk = program::walk(program, program::Sampling::kAll);
  const auto lives = program::lives_of(program, walk);
  const auto counts = program::occupancy(program, walk, lives, Place::kDevice);
  const auto peak = std::max_element(
      counts.begin(), counts.end(),
      [](const auto& a, const auto& b) { return program::sum_of(a) < program::sum_of(b); });
  const auto at = static_cast<std::int32_t>(peak - counts.begin());
  std::set<program::StorageId> live;
  for (const program::Life& life : lives) {
    if (life.begin <= at && at <= life.end) live.insert(life.storage);
  }
  return live;
}

// Makes output `out` of an instruction, and of no other, one row longer; false where that would
// leave the arena.
bool lengthen(StepProgram& program, std::size_t instruction, int out) {
  program::Operand& operand = program.instructions[instruction].out[out];
  program::Tensor tensor = program.tensor(operand);
  const program::Storage& storage = program.storage_of(operand.tensor);
  const Bytes end = storage.offset + (storage.copies.count - 1) * storage.stride + tensor.offset;
  tensor.shape = {tensor.shape.rows() + 1, tensor.shape.width()};
  if (end + tensor.extent() > program.arena[static_cast<std::size_t>(storage.place)]) return false;
  operand.tensor = static_cast<program::TensorId>(program.tensors.size());
  program.tensors.push_back(tensor);
  return true;
}

TEST(Comparison, SeesAKernelThatWritesOneRowTooFar) {
  for (const Setting& setting : {Setting{}, Setting{.method = Method::kLora}}) {
    const World world(setting);
    FirstStep good(world);
    const PlaceBytes predicted = good.predicted();
    ASSERT_EQ(text_of(good.measure()), text_of(predicted));
    const auto live = live_at_peak(good.program());
    int seen = 0;
    for (std::size_t id = 0; id < good.program().instructions.size(); ++id) {
      const program::Instruction& instruction = good.program().instructions[id];
      if (instruction.op != Op::kLinear || instruction.phase != program::Phase::kForward) continue;
      if (!live.contains(good.program().tensor(instruction.out[0]).storage)) continue;
      FirstStep bad(world);
      if (!lengthen(bad.program(), id, 0)) continue;
      EXPECT_NE(text_of(bad.measure()), text_of(predicted)) << "instruction " << id;
      ++seen;
    }
    EXPECT_GE(seen, 4) << to_text(setting.method);
  }
}

TEST(Comparison, SeesAStorageThatIsNeverUsed) {
  const World world(Setting{});
  FirstStep step(world);
  StepProgram& program = step.program();
  Bytes& arena = program.arena[static_cast<std::size_t>(Place::kDevice)];
  program.storages.push_back({.size = program::kAlignment,
                              .category = Category::kOptimizer,
                              .region = program::Region::kPersistent,
                              .name = "never used",
                              .offset = arena,
                              .stride = program::kAlignment});
  arena += program::kAlignment;
  const PlaceBytes predicted = step.predicted();
  const PlaceBytes measured = step.measure();
  EXPECT_EQ(predicted.optimizer, measured.optimizer + program::kAlignment);
  EXPECT_NE(text_of(predicted), text_of(measured));
}

// ---- allocations ----

TEST_P(Exactness, NothingIsAllocatedOutsideOfTheArena) {
  const World world([&] {
    Setting wanted = setting();
    wanted.validation = 0.25;
    return wanted;
  }());
  auto run = world.load();
  reset_outside_peak();
  const Bytes before = outside_bytes();
  const Feeder feeder = world.feeder();
  for (std::int64_t i = 0; i < feeder.steps_per_epoch(); ++i) (void)world.train(*run, i);
  for (const StepRows& rows : feeder.validation()) {
    (void)need(run->evaluate(rows.length, feeder.fill_validation(rows)));
  }
  EXPECT_EQ(before, Bytes{});
  EXPECT_EQ(outside_bytes(), Bytes{});
  EXPECT_EQ(outside_peak(), Bytes{});
}

TEST(Allocation, IsServedFromTheScratchOfTheRunningOperation) {
  install_allocator();
  std::vector<std::byte> bytes(1024);
  Scratch scratch(bytes, "matmul");
  const ScratchScope scope(scratch);
  const NoAllocation forbidden;
  const at::Tensor tensor = at::empty({16}, at::kFloat);
  EXPECT_EQ(tensor.data_ptr(), bytes.data());
  EXPECT_EQ(scratch.used(), Bytes{16 * 4});
  try {
    (void)at::empty({1024}, at::kFloat);
    FAIL() << "more than the scratch was served";
  } catch (const ScratchExceeded& exceeded) {
    EXPECT_EQ(exceeded.operation(), "matmul");
  }
  EXPECT_EQ(outside_bytes(), Bytes{});
}

TEST(Allocation, OutsideOfAnOperationIsCountedOrRefused) {
  install_allocator();
  {
    const at::Tensor tensor = at::empty({16}, at::kFloat);
    EXPECT_EQ(outside_bytes(), Bytes{16 * 4});
  }
  EXPECT_EQ(outside_bytes(), Bytes{});
  const NoAllocation forbidden;
  EXPECT_THROW((void)at::empty({16}, at::kFloat), ScratchExceeded);
}

TEST(Allocation, WhileAStepRunsIsRefusedOutsideOfKernelsToo) {
  const World world(Setting{});
  auto run = world.load();
  const Feeder feeder = world.feeder();
  const StepRows rows = feeder.rows_of_step(0);
  const FillBatch fill = feeder.fill(rows);
  const FillBatch allocating = [&](std::int32_t micro_step, const std::array<View, 8>& to) {
    fill(micro_step, to);
    (void)at::empty({16}, at::kFloat);
  };
  const auto output = run->train(rows.length, world.input(0, rows), allocating);
  ASSERT_FALSE(output);
  EXPECT_NE(output.error().text().find("outside the program"), std::string::npos)
      << output.error().text();
}

}  // namespace
}  // namespace ftplan::executor

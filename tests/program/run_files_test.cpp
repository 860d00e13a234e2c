#include "program/run_files.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "core/category.h"
#include "core/job.h"
#include "core/method.h"
#include "core/training.h"
#include "core/units.h"
#include "models/safetensors_header.h"
#include "tests/program/support.h"

namespace ftplan::program {
namespace {

const std::string kPlan(16, 'a');

std::int64_t length_of(const CheckpointState& state) {
  std::int64_t length = 0;
  for (const auto& [name, value] : checkpoint_metadata(state, kPlan))
    length += static_cast<std::int64_t>(name.size() + value.size());
  return length;
}

TEST(CheckpointMetadata, HoldsEveryBitAndIsAlwaysAsLong) {
  for (const double loss : {0.0, 0.1, 2.0 / 3, 1e300, std::numeric_limits<double>::denorm_min(),
                            std::numeric_limits<double>::max()}) {
    const CheckpointState state{.step = 120, .best = {.step = 90, .loss = loss, .worse = 3}};
    EXPECT_EQ(checkpoint_state(checkpoint_metadata(state, kPlan)), state);
    EXPECT_EQ(length_of(state), length_of({}));
  }
}

TEST(CheckpointMetadata, OfSomethingElseIsRefused) {
  EXPECT_FALSE(checkpoint_state({{"format", "pt"}}));
  for (const char* text : {"", "x", "12x", "0000000000000000000000000000"}) {
    models::Metadata metadata = checkpoint_metadata({}, kPlan);
    for (auto& [name, value] : metadata) {
      if (name == "step") value = text;
    }
    EXPECT_EQ(checkpoint_state(metadata).has_value(), std::string(text).starts_with("00")) << text;
  }
}

struct Files {
  std::int64_t checkpoint, best, result;
};

// Sizes of single files, from runs that hold few of them.
struct Disk {
  explicit Disk(Method method) { request.method.method = method; }
  [[nodiscard]] PlaceBytes bytes(std::int64_t saves) const {
    const Case c = make_case(request, toy_model(), {});
    return disk_bytes(c.job, checkpoint_tensors(lower_case(c)), saves);
  }
  [[nodiscard]] Files files() {
    const TrainingOptions asked = request.training;
    request.training.save_every = {.steps = 1};
    request.training.save_total_limit = 5;
    request.training.load_best_model_at_end = false;
    const std::int64_t one = bytes(1).peak.value, two = bytes(2).peak.value;
    request.data.validation = 0.5;
    request.training.load_best_model_at_end = true;
    const std::int64_t with_best = bytes(1).peak.value;
    request.training = asked;
    return {.checkpoint = two - one, .best = with_best - one, .result = 2 * one - two};
  }
  JobRequest request = toy_request();
};

TEST(DiskBytes, AreThoseOfTheFullestInstant) {
  for (const Method method : {Method::kFull, Method::kLora}) {
    Disk disk(method);
    const Files files = disk.files();
    EXPECT_GT(files.checkpoint, files.result);
    EXPECT_GT(files.checkpoint, files.best);
    disk.request.training.save_every = {.steps = 1};
    disk.request.training.save_total_limit = 3;
    // Fewer than the limit: all of them beside the result. More: the newest before one goes.
    EXPECT_EQ(disk.bytes(1).peak.value, files.checkpoint + files.result);
    EXPECT_EQ(disk.bytes(3).peak.value, 3 * files.checkpoint + files.result);
    EXPECT_EQ(disk.bytes(9).peak.value, 4 * files.checkpoint);
    disk.request.data.validation = 0.5;
    disk.request.training.load_best_model_at_end = true;
    EXPECT_EQ(disk.bytes(9).peak.value, 4 * files.checkpoint + files.best);
  }
}

TEST(DiskBytes, OfTheBestAreItsValues) {
  Disk disk(Method::kFull);
  const PlaceBytes without = disk.bytes(1);
  disk.request.data.validation = 0.5;
  disk.request.training.load_best_model_at_end = true;
  const PlaceBytes with = disk.bytes(1);
  EXPECT_EQ(with.optimizer, without.optimizer);
  // AdamW in f32: two moments of the size of the values.
  EXPECT_EQ(2 * (with.weights - without.weights).value, without.optimizer.value);
}

TEST(FileShare, OfShardedStatesIsTheRanksPartOfEveryUnit) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    JobRequest request = toy_request();
    request.method.method = Method::kFull;
    request.method.precision = precision;
    request.devices.gpus = "2xcpu";
    const Case c = make_case(request, toy_model(), {.zero = 1});
    for (std::int64_t rank = 0; rank < 2; ++rank) {
      const FileShare share = file_share(c.job, c.strategy, rank);
      EXPECT_EQ(share, (FileShare{.part = rank, .parts = 2, .writes_result = rank == 0}));
      const StepProgram train = lower_case(c, rank);
      for (const StateTensor& tensor : checkpoint_tensors(train, share)) {
        const TrainedUnit& unit = train.units[static_cast<std::size_t>(tensor.unit)];
        EXPECT_EQ(tensor.spec.shape.elements(), unit.elements / 2) << tensor.spec.name;
        // Values without a master are the weights, which each rank has whole.
        const bool whole = tensor.part == StatePart::kValues && unit.master == kNone;
        EXPECT_EQ(tensor.first, whole ? rank * unit.elements / 2 : 0) << tensor.spec.name;
      }
    }
  }
}

TEST(FileShare, OfWholeStatesIsRankZeros) {
  JobRequest request = toy_request();
  request.devices.gpus = "2xcpu";
  const Case c = make_case(request, toy_model(), {});
  EXPECT_EQ(file_share(c.job, c.strategy, 0), FileShare{});
  const FileShare other = file_share(c.job, c.strategy, 1);
  EXPECT_EQ(other, (FileShare{.writes_states = false, .writes_result = false}));
  const auto states = checkpoint_tensors(lower_case(c), other);
  EXPECT_EQ(disk_bytes(c.job, states, 3, other), PlaceBytes{});
}

TEST(CheckpointCount, IncludesTheOneAtTheEnd) {
  JobRequest request = toy_request();
  const auto count = [&](Cadence every, std::int64_t steps) {
    request.training.save_every = every;
    return checkpoint_count(make_case(request, toy_model(), {}).job, steps, 5);
  };
  EXPECT_EQ(count({}, 10), 1);
  EXPECT_EQ(count({.steps = 3}, 10), /*3, 6, 9, 10=*/4);
  EXPECT_EQ(count({.steps = 3}, 9), /*3, 6, 9=*/3);
  EXPECT_EQ(count({.epoch = true}, 12), /*5, 10, 12=*/3);
  EXPECT_EQ(count({.epoch = true}, 0), 1);
}

}  // namespace
}  // namespace ftplan::program

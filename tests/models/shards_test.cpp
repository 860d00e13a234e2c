#include "models/shards.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/units.h"
#include "models/checkpoint.h"
#include "models/safetensors.h"
#include "models/safetensors_header.h"
#include "tests/models/support.h"

namespace ftplan::models {
namespace {

// Three tensors of 40 bytes and one of 400.
std::vector<TensorSpec> toy_specs() {
  return {{"a", DType::kF32, {10}},
          {"big", DType::kF32, {100}},
          {"b", DType::kF32, {10}},
          {"c", DType::kF32, {10}}};
}

std::vector<std::string> names(const Shard& shard) {
  std::vector<std::string> all;
  for (const TensorSpec& spec : shard.specs) all.push_back(spec.name);
  return all;
}

TEST(PlanShards, OneShardNeedsNoIndex) {
  const ShardPlan plan = plan_shards(toy_specs());
  ASSERT_EQ(plan.shards.size(), 1U);
  EXPECT_EQ(plan.shards[0].file, "model.safetensors");
  EXPECT_FALSE(plan.sharded());
  EXPECT_EQ(plan.tensor_bytes().value, 3 * 40 + 400);
  EXPECT_EQ(plan.disk_bytes(), file_size(toy_specs()));
}

TEST(PlanShards, ATensorBeyondTheLimitHasItsOwnShard) {
  const ShardPlan plan = plan_shards(toy_specs(), Bytes{80});
  // as the reference: the big one is put down at once, while the shard of `a` is still being filled
  ASSERT_EQ(plan.shards.size(), 3U);
  EXPECT_EQ(names(plan.shards[0]), std::vector<std::string>{"big"});
  EXPECT_EQ(names(plan.shards[1]), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(names(plan.shards[2]), std::vector<std::string>{"c"});
  EXPECT_EQ(plan.shards[2].file, "model-00003-of-00003.safetensors");
}

TEST(ShardedWriter, WritesWhatTheCheckpointReads) {
  const TempFolder temp;
  const ShardPlan plan = plan_shards(toy_specs(), Bytes{80});
  auto writer = ShardedWriter::create(temp / "out", plan);
  ASSERT_EQ(error_text(writer), "ok");
  for (const TensorSpec& spec : toy_specs()) {
    ASSERT_EQ(error_text(writer->write(spec.name, toy_bytes(spec))), "ok");
  }
  ASSERT_EQ(error_text(writer->finish()), "ok");

  Bytes on_disk;
  for (const auto& entry : std::filesystem::directory_iterator(temp / "out")) {
    on_disk += Bytes{static_cast<std::int64_t>(entry.file_size())};
  }
  EXPECT_EQ(on_disk, plan.disk_bytes());
  const auto checkpoint = Checkpoint::open(temp / "out");
  ASSERT_EQ(error_text(checkpoint), "ok");
  EXPECT_TRUE(checkpoint->sharded());
  for (const TensorSpec& spec : toy_specs()) {
    const TensorView* tensor = checkpoint->find(spec.name);
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(std::vector(tensor->bytes.begin(), tensor->bytes.end()), toy_bytes(spec));
  }
}

TEST(ShardedWriter, ASecondCheckpointInTheFolderIsRefused) {
  const TempFolder temp;
  put(temp / "model.safetensors", "");
  EXPECT_EQ(
      error_text(ShardedWriter::create(temp.path(), plan_shards(toy_specs(), Bytes{80})),
                 temp.path()),
      "model.safetensors: belongs to another checkpoint: remove it, or write into an empty folder");
}

TEST(ParseIndex, RefusesWhatIsNoIndex) {
  const auto parse = [](const char* text) { return error_text(parse_index(text, "i")); };
  EXPECT_EQ(parse(R"({"weight_map": {"a": "f"}})"), "ok");
  EXPECT_EQ(parse("{}"), "i#/weight_map: missing");
  EXPECT_EQ(parse(R"({"weight_map": {}})"), "i#/weight_map: names no tensor");
  EXPECT_EQ(parse(R"({"weight_map": []})"), "i#/weight_map: got a list, expected an object");
  EXPECT_EQ(parse(R"({"weight_map": {"a": 1}})"), "i#/weight_map/a: got 1, expected a file name");
  EXPECT_EQ(parse(R"({"weight_map": {"a": "../f"}})"),
            "i#/weight_map/a: \"../f\" leaves the model folder");
  EXPECT_EQ(parse(R"({"weight_map": {"a": "/f"}})"),
            "i#/weight_map/a: \"/f\" leaves the model folder");
}

}  // namespace
}  // namespace ftplan::models

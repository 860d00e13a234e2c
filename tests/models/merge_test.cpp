#include "models/merge.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/shape.h"
#include "core/units.h"
#include "models/adapter.h"
#include "models/adapter_config.h"
#include "models/checkpoint.h"
#include "models/convert.h"
#include "models/safetensors.h"
#include "models/safetensors_header.h"
#include "models/shards.h"
#include "tests/models/support.h"

namespace ftplan::models {
namespace {

// scaling = alpha / rank = 2
AdapterConfig toy_adapter() {
  return {.base_model = "toy", .rank = 3, .alpha = 6, .targets = {"q_proj", "down_proj"}};
}

void put_adapter(const std::string& folder, const AdapterConfig& config) {
  put(folder + "/adapter_config.json", render_adapter_config(config, Family::kLlama));
  put_safetensors(folder + "/adapter_model.safetensors",
                  adapter_specs(config, toy_model(), {DType::kF32, DType::kF32}));
}

// W + 2 B A by the book, in double.
std::vector<double> expected_weight(const TensorSpec& weight) {
  const std::vector<float> base = toy_values(weight);
  std::vector<double> merged(base.begin(), base.end());
  const std::string stem =
      "base_model.model." + weight.name.substr(0, weight.name.size() - 6);  // "weight"
  const std::int64_t width = weight.shape[1];
  const std::vector<float> a = toy_values({stem + "lora_A.weight", DType::kF32, {3, width}});
  const std::vector<float> b =
      toy_values({stem + "lora_B.weight", DType::kF32, {weight.shape[0], 3}});
  for (std::size_t i = 0; i < merged.size(); ++i) {
    const std::size_t row = i / static_cast<std::size_t>(width);
    const std::size_t column = i % static_cast<std::size_t>(width);
    for (std::size_t k = 0; k < 3; ++k) {
      merged[i] += 2.0 * b[row * 3 + k] * a[k * static_cast<std::size_t>(width) + column];
    }
  }
  return merged;
}

bool is_adapted(const std::string& name) {
  return name.find("q_proj") != std::string::npos || name.find("down_proj") != std::string::npos;
}

class Merge : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, Merge, testing::Values(DType::kF32, DType::kBf16, DType::kF16));

TEST_P(Merge, AddsTheScaledProductAndRoundsOnce) {
  const TempFolder temp;
  put_toy_model(temp / "base", GetParam());
  put_adapter(temp / "adapter", toy_adapter());
  const auto summary =
      merge_adapter({temp / "base", temp / "adapter", temp / "out", /*threads=*/3});
  ASSERT_EQ(error_text(summary), "ok");
  EXPECT_EQ(summary->merged, 2 * 2);

  const auto merged = Checkpoint::open(temp / "out");
  ASSERT_EQ(error_text(merged), "ok");
  for (const TensorSpec& spec : model_specs(toy_model(), GetParam())) {
    const TensorView& tensor = *merged->find(spec.name);
    ASSERT_EQ(*spec_of(tensor), spec);
    if (!is_adapted(spec.name)) {
      EXPECT_EQ(std::vector(tensor.bytes.begin(), tensor.bytes.end()), toy_bytes(spec))
          << spec.name;
      continue;
    }
    // Toy values are multiples of 1/64 below 1, so sums and products are exact in f32.
    std::vector<float> expected;
    for (const double value : expected_weight(spec)) expected.push_back(static_cast<float>(value));
    std::vector<std::byte> rounded(tensor.bytes.size());
    from_f32(expected, GetParam(), rounded);
    EXPECT_EQ(std::vector(tensor.bytes.begin(), tensor.bytes.end()), rounded) << spec.name;
  }
}

TEST(Merge, AddsToTheTableOfAnEmbedding) {
  const TempFolder temp;
  put_toy_model(temp / "base", DType::kF32);
  AdapterConfig config = toy_adapter();
  config.targets = {"embed_tokens"};
  put_adapter(temp / "adapter", config);
  ASSERT_EQ(error_text(merge_adapter({temp / "base", temp / "adapter", temp / "out"})), "ok");
  const auto merged = Checkpoint::open(temp / "out");
  ASSERT_EQ(error_text(merged), "ok");
  const ModelConfig model = toy_model();
  const std::string stem = "base_model.model.model.embed_tokens.lora_embedding_";
  const auto a = toy_values({stem + "A", DType::kF32, {3, model.vocabulary}});
  const auto b = toy_values({stem + "B", DType::kF32, {model.hidden, 3}});
  const TensorView& table = *merged->find("model.embed_tokens.weight");
  auto expected = toy_values(*spec_of(table));
  for (std::int64_t row = 0; row < model.vocabulary; ++row) {
    for (std::int64_t column = 0; column < model.hidden; ++column) {
      for (std::int64_t k = 0; k < 3; ++k) {
        expected[static_cast<std::size_t>(row * model.hidden + column)] +=
            2 * b[static_cast<std::size_t>(column * 3 + k)] *
            a[static_cast<std::size_t>(k * model.vocabulary + row)];
      }
    }
  }
  EXPECT_EQ(values_of(table), expected);
}

TEST(Merge, RefusesToChangeBothOfATiedPair) {
  const TempFolder temp;
  put_toy_model(temp / "base", DType::kF32);
  std::string config = get(temp / "base/config.json");
  config.insert(config.find('{') + 1, "\"tie_word_embeddings\": true, ");
  put(temp / "base/config.json", config);
  ModelConfig tied = toy_model();
  tied.tied_embeddings = true;
  put_safetensors(temp / "base/model.safetensors", model_specs(tied, DType::kF32));
  AdapterConfig adapter = toy_adapter();
  adapter.targets = {"lm_head"};
  put_adapter(temp / "adapter", adapter);
  const auto summary = merge_adapter({temp / "base", temp / "adapter", temp / "out"});
  ASSERT_FALSE(summary.ok());
  EXPECT_EQ(summary.error().message,
            "adapts lm_head, but the embedding and the head of this base are one tensor: merged, "
            "it would change both; use the adapter beside its base");
  EXPECT_FALSE(std::filesystem::exists(temp / "out"));
}

TEST_P(Merge, PutsWeightsTrainedInFullInTheirPlace) {
  const TempFolder temp;
  put_toy_model(temp / "base", GetParam());
  AdapterConfig config = toy_adapter();
  config.modules_to_save = {"lm_head", "norm"};
  put_adapter(temp / "adapter", config);
  const auto summary = merge_adapter({temp / "base", temp / "adapter", temp / "out"});
  ASSERT_EQ(error_text(summary), "ok");
  EXPECT_EQ(summary->merged, /*linears=*/2 * 2 + /*norms=*/2 * 2 + 1 + /*head=*/1);
  const auto merged = Checkpoint::open(temp / "out");
  ASSERT_EQ(error_text(merged), "ok");
  int replaced = 0;
  for (const TensorSpec& spec : model_specs(toy_model(), GetParam())) {
    const TensorView& tensor = *merged->find(spec.name);
    ASSERT_EQ(*spec_of(tensor), spec);
    if (is_adapted(spec.name)) continue;
    const bool saved = spec.name == "lm_head.weight" || spec.name.ends_with("norm.weight");
    replaced += saved ? 1 : 0;
    const TensorSpec from{saved ? "base_model.model." + spec.name : spec.name, spec.dtype,
                          spec.shape};
    EXPECT_EQ(std::vector(tensor.bytes.begin(), tensor.bytes.end()), toy_bytes(from)) << spec.name;
  }
  EXPECT_EQ(replaced, 2 * 2 + 1 + 1);
}

TEST(Merge, CopiesWhatBelongsToTheModelAndNothingElse) {
  const TempFolder temp;
  put_toy_model(temp / "base");
  for (const char* name :
       {"tokenizer.json", "tokenizer.model", "chat_template.jinja", "LICENSE.txt",
        "generation_config.json", "README.md", "pytorch_model.bin", "training_args.bin"}) {
    put(temp / "base/" + name, name);
  }
  put_adapter(temp / "adapter", toy_adapter());
  const auto summary = merge_adapter({temp / "base", temp / "adapter", temp / "out"});
  ASSERT_EQ(error_text(summary), "ok");
  Bytes on_disk;
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(temp / "out")) {
    names.push_back(entry.path().filename().string());
    on_disk += Bytes{static_cast<std::int64_t>(entry.file_size())};
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"LICENSE.txt", "chat_template.jinja", "config.json",
                                             "generation_config.json", "model.safetensors",
                                             "tokenizer.json", "tokenizer.model"}));
  EXPECT_EQ(summary->written, on_disk);
}

TEST(Merge, KeepsTheShardsOfItsBase) {
  const TempFolder temp;
  const std::vector<TensorSpec> specs = model_specs(toy_model(), DType::kF32);
  const ShardPlan plan = plan_shards(specs, Bytes{1000});
  ASSERT_TRUE(plan.sharded());
  auto writer = ShardedWriter::create(temp / "base", plan);
  for (const TensorSpec& spec : specs)
    ASSERT_EQ(error_text(writer->write(spec.name, toy_bytes(spec))), "ok");
  ASSERT_EQ(error_text(writer->finish()), "ok");
  put(temp / "base/config.json", toy_config_json());
  put_adapter(temp / "adapter", toy_adapter());
  ASSERT_EQ(error_text(merge_adapter({temp / "base", temp / "adapter", temp / "out"})), "ok");
  EXPECT_EQ(get(temp / "out/model.safetensors.index.json"),
            get(temp / "base/model.safetensors.index.json"));
  const auto merged = Checkpoint::open(temp / "out");
  ASSERT_EQ(error_text(merged), "ok");
  EXPECT_EQ(merged->files().size(), plan.shards.size());
}

TEST(Merge, ReportsEveryTensor) {
  const TempFolder temp;
  put_toy_model(temp / "base");
  put_adapter(temp / "adapter", toy_adapter());
  std::vector<MergeProgress> reports;
  ASSERT_EQ(
      error_text(merge_adapter({temp / "base", temp / "adapter", temp / "out"},
                               [&](const MergeProgress& report) { reports.push_back(report); })),
      "ok");
  ASSERT_EQ(reports.size(), model_specs(toy_model(), DType::kF32).size());
  EXPECT_EQ(reports.back().done, reports.back().total);
}

TEST(Merge, RefusesAFolderThatIsTaken) {
  const TempFolder temp;
  put_toy_model(temp / "base");
  put_adapter(temp / "adapter", toy_adapter());
  EXPECT_EQ(merge_adapter({temp / "base", temp / "adapter", temp / "base"}).error().message,
            "is taken: it holds a config.json; name a new folder");
  EXPECT_EQ(merge_adapter({temp / "base", temp / "adapter", temp / "adapter"}).error().message,
            "is taken: it holds a adapter_config.json; name a new folder");
}

TEST(Merge, RefusesSumsThatTheElementTypeCannotHold) {
  const TempFolder temp;
  put_toy_model(temp / "base", DType::kF16);
  AdapterConfig config = toy_adapter();
  config.alpha = 1e6;
  put_adapter(temp / "adapter", config);
  const auto merged = merge_adapter({temp / "base", temp / "adapter", temp / "out"});
  ASSERT_FALSE(merged.ok());
  EXPECT_TRUE(merged.error().message.ends_with(" values that are not finite as F16"))
      << merged.error().message;
  EXPECT_FALSE(std::filesystem::exists(temp / "out/config.json"));
  EXPECT_FALSE(std::filesystem::exists(temp / "out/model.safetensors"));
}

}  // namespace
}  // namespace ftplan::models

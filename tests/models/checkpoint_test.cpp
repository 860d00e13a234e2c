#include "models/checkpoint.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/model_config.h"
#include "core/shape.h"
#include "models/config_reader.h"
#include "models/family.h"
#include "models/safetensors.h"
#include "models/safetensors_header.h"
#include "models/safetensors_writer.h"
#include "tests/models/support.h"

namespace ftplan::models {
namespace {

// The verdict on a folder with these tensors.
std::string check(const std::vector<TensorSpec>& specs, const ModelConfig& config) {
  const TempFolder temp;
  put_safetensors(temp / "model.safetensors", specs);
  const auto checkpoint = Checkpoint::open(temp.path());
  if (!checkpoint) return error_text(checkpoint, temp.path());
  const auto checked = check_weights(*checkpoint, config);
  return checked ? "ok" : checked.error().message;
}

std::vector<TensorSpec> toy_specs() { return model_specs(toy_model(), DType::kF32); }

ModelConfig tied_model() {
  ModelConfig config = toy_model();
  config.tied_embeddings = true;
  return config;
}

TEST(Checkpoint, HasNoRowsOfNewTokens) {
  const ModelConfig grown = with_vocabulary(toy_model(), toy_model().vocabulary + 3);
  EXPECT_EQ(check(toy_specs(), grown), "ok");
  EXPECT_NE(check(model_specs(grown, DType::kF32), grown), "ok");
}

TEST(Checkpoint, RefusesFoldersWithoutSafetensors) {
  const TempFolder temp;
  EXPECT_EQ(error_text(Checkpoint::open(temp / "x"), temp.path()), "x: is not a folder");
  EXPECT_EQ(Checkpoint::open(temp.path()).error().message,
            "has no weights: expected model.safetensors or model.safetensors.index.json");
  put(temp / "pytorch_model.bin", "");
  EXPECT_EQ(Checkpoint::open(temp.path()).error().message,
            "has its weights in pytorch_model.bin, ftplan reads safetensors: convert them with "
            "python -c \"from "
            "transformers import AutoModelForCausalLM as M; M.from_pretrained('" +
                temp.path() + "', dtype='auto').save_pretrained('NEW_FOLDER')\"");
}

TEST(Checkpoint, NamesTheShardOrTensorThatIsMissing) {
  const TempFolder temp;
  put(temp / "model.safetensors.index.json",
      R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})");
  put_safetensors(temp / "one.safetensors", {{"a", DType::kF32, {1}}});
  EXPECT_EQ(error_text(Checkpoint::open(temp.path()), temp.path()),
            "two.safetensors: is missing: model.safetensors.index.json expects \"b\" in it");
  put_safetensors(temp / "two.safetensors", {{"c", DType::kF32, {1}}});
  EXPECT_EQ(
      error_text(Checkpoint::open(temp.path()), temp.path()),
      "two.safetensors: lacks the tensor \"b\" that model.safetensors.index.json expects in it");
}

TEST(Checkpoint, TheIndexDecidesBetweenTwoTensorsOfOneName) {
  const TempFolder temp;
  put(temp / "model.safetensors.index.json",
      R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})");
  put_safetensors(temp / "one.safetensors", {{"a", DType::kF32, {1}}});
  put_safetensors(temp / "two.safetensors", {{"a", DType::kF32, {2}}, {"b", DType::kF32, {1}}});
  const auto checkpoint = Checkpoint::open(temp.path());
  ASSERT_EQ(error_text(checkpoint), "ok");
  EXPECT_EQ(*checkpoint->find("a")->shape(), Shape{1});
}

TEST(CheckWeights, AcceptsTheModelInAnyFloat) {
  EXPECT_EQ(check(toy_specs(), toy_model()), "ok");
  EXPECT_EQ(check(model_specs(toy_model(), DType::kF16), toy_model()), "ok");
  EXPECT_EQ(check(model_specs(tied_model(), DType::kBf16), tied_model()), "ok");
}

TEST(CheckWeights, AcceptsACheckpointOfTheBaseModel) {
  std::vector<TensorSpec> specs = model_specs(tied_model(), DType::kF32);
  for (TensorSpec& spec : specs) spec.name = spec.name.substr(std::string("model.").size());
  EXPECT_EQ(check(specs, tied_model()), "ok");
}

TEST(CheckWeights, AcceptsACheckpointOfFalconsBaseModel) {
  const ModelConfig falcon = *read_config(
      R"({"model_type": "falcon", "vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 2,
          "num_attention_heads": 2})",
      "config.json");
  std::vector<TensorSpec> specs = model_specs(falcon, DType::kF32);
  for (TensorSpec& spec : specs) spec.name = spec.name.substr(std::string("transformer.").size());
  EXPECT_EQ(check(specs, falcon), "ok");
}

TEST(CheckWeights, IgnoresTheFrequenciesOfOldCheckpoints) {
  std::vector<TensorSpec> specs = toy_specs();
  specs.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", DType::kF32, {2}});
  EXPECT_EQ(check(specs, toy_model()), "ok");
}

TEST(CheckWeights, NamesWrongMissingAndUnexpectedTensors) {
  std::vector<TensorSpec> specs = toy_specs();
  std::erase_if(
      specs, [](const TensorSpec& spec) { return spec.name.find("k_proj") != std::string::npos; });
  for (TensorSpec& spec : specs) {
    if (spec.name == "model.norm.weight") spec.shape = {9};
    if (spec.name == "lm_head.weight") spec.dtype = DType::kI8;
  }
  for (const char* name : {"x1", "x2", "x3", "x4"}) specs.push_back({name, DType::kF32, {1}});
  EXPECT_EQ(
      check(specs, toy_model()),
      "the weights are not those of config.json: wrong: model.norm.weight is [9], expected [8], "
      "lm_head.weight is I8, expected F32, F16 or BF16; missing: "
      "model.layers.0.self_attn.k_proj.weight "
      "[4, 8], model.layers.1.self_attn.k_proj.weight [4, 8]; unexpected: \"x1\" [1], \"x2\" [1], "
      "\"x3\" "
      "[1] and 1 more");
}

TEST(CheckWeights, ATiedHeadThatIsStoredMustEqualTheEmbedding) {
  std::vector<TensorSpec> specs = model_specs(tied_model(), DType::kF32);
  specs.push_back({"lm_head.weight", DType::kF32, {10, 8}});
  const std::string differs =
      "lm_head.weight differs from model.embed_tokens.weight, but config.json ties them: set "
      "tie_word_embeddings to false";
  EXPECT_EQ(check(specs, tied_model()), differs);

  const TempFolder temp;
  auto writer = SafetensorsWriter::create(temp / "model.safetensors", specs);
  for (const TensorSpec& spec : specs) {
    const bool head = spec.name == "lm_head.weight";
    ASSERT_EQ(error_text(writer->write(spec.name, toy_bytes(head ? specs[0] : spec))), "ok");
  }
  ASSERT_EQ(error_text(writer->finish()), "ok");
  const auto checkpoint = Checkpoint::open(temp.path());
  EXPECT_EQ(error_text(check_weights(*checkpoint, tied_model())), "ok");
}

}  // namespace
}  // namespace ftplan::models

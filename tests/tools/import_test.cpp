#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "core/job.h"
#include "core/json.h"
#include "core/method.h"
#include "core/result.h"
#include "tools/import/imported_job.h"
#include "tools/import/yaml.h"

namespace ftplan::tools {
namespace {

constexpr const char* kAxolotl = R"(
base_model: meta-llama/Llama-2-7b-hf
adapter: lora
load_in_4bit: true
load_in_8bit: false
lora_r: 32
lora_alpha: '16'
lora_dropout: 5e-2   # a text for Python's YAML
lora_target_linear: true
sequence_len: 4096
sample_packing: true
micro_batch_size: 2
gradient_accumulation_steps: 4
gradient_checkpointing: true
optimizer: adamw_torch
learning_rate: 0.0002
bf16: auto
datasets: [{path: somebody/data, type: alpaca}]
special_tokens:
deepspeed: zero3.json
unsloth_lora_mlp: true
)";

JobRequest request_from(const std::string& text, const std::string& name) {
  const auto imported = import_job(text, name);
  EXPECT_TRUE(imported.ok()) << imported.error().text();
  const auto request = request_of(*imported, name);
  EXPECT_TRUE(request.ok()) << request.error().text();
  return *request;
}

TEST(Import, AxolotlSaysWhatIsTrainedAndHow) {
  const JobRequest request = request_from(kAxolotl, "a.yml");
  EXPECT_EQ(request.model, "meta-llama/Llama-2-7b-hf");
  EXPECT_EQ(request.method.method, Method::kQlora);
  EXPECT_EQ(request.method.rank, 32);
  EXPECT_EQ(request.method.alpha, 16);
  EXPECT_EQ(request.method.dropout, 0.05);
  EXPECT_EQ(request.method.targets, std::vector<std::string>{"all-linear"});
  EXPECT_EQ(request.method.precision, Precision::kAuto);
  EXPECT_EQ(request.data.seq, 4096);
  EXPECT_EQ(request.data.packing, Packing::kIsolated);
  EXPECT_EQ(request.training.micro_batch, 2);
  EXPECT_EQ(request.training.accumulation, 4);
  EXPECT_EQ(request.layout.checkpointing, (Checkpointing{.every = 1}));
}

TEST(Import, WhatIsNotKnownIsListed) {
  const auto imported = import_job(kAxolotl, "a.yml");
  ASSERT_TRUE(imported.ok());
  EXPECT_EQ(imported->trainer, "axolotl");
  EXPECT_EQ(imported->left_out,
            (std::vector<std::string>{"deepspeed = \"zero3.json\"", "unsloth_lora_mlp = true"}));
}

TEST(Import, WithoutAnAdapterAxolotlTrainsEverything) {
  const JobRequest request = request_from("base_model: llama2-7b\nadapter:\n", "a.yaml");
  EXPECT_EQ(request.method.method, Method::kFull);
  EXPECT_EQ(request.data.seq, 512);
  EXPECT_EQ(request.layout.checkpointing, Checkpointing{});
}

TEST(Import, DeepSpeedSaysBatchAndStage) {
  const std::string text = R"({"zero_optimization": {"stage": 1, "overlap_comm": true,
      "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "none"}},
      "bf16": {"enabled": "auto"}, "fp16": {"enabled": false, "loss_scale": 0},
      "train_batch_size": 64, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2})";
  const JobRequest request = request_from(text, "ds.json");
  EXPECT_EQ(request.layout.zero, 1);
  EXPECT_EQ(request.training.micro_batch, 4);
  EXPECT_EQ(request.training.accumulation, 2);
  EXPECT_FALSE(request.training.global_batch.has_value());  // of devices that are not told
  EXPECT_EQ(request.method.precision, Precision::kAuto);
  EXPECT_EQ(import_job(text, "ds.json")->left_out,
            std::vector<std::string>{"zero_optimization.offload_optimizer.device = \"cpu\""});
}

TEST(Import, AnAdapterHasPeftsDefaults) {
  const JobRequest request = request_from(
      R"({"peft_type": "LORA", "base_model_name_or_path": "m", "target_modules": ["q_proj"]})",
      "c.json");
  EXPECT_EQ(request.method.method, Method::kLora);
  EXPECT_EQ(request.method.rank, 8);
  EXPECT_EQ(request.method.alpha, 8);
  EXPECT_EQ(request.method.targets, std::vector<std::string>{"q_proj"});
  EXPECT_TRUE(request.method.modules_to_save.empty());
}

TEST(Import, ADeepSpeedFileThatIsNamedIsReadToo) {
  const std::string folder = testing::TempDir() + "ftplan-import-deepspeed";
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/a.yml") << "base_model: m\nmicro_batch_size: 4\ndeepspeed: ds.json\n";
  std::ofstream(folder + "/ds.json") << R"({"zero_optimization": {"stage": 1, "round_robin": 3},
      "train_micro_batch_size_per_gpu": 8, "bf16": {"enabled": "auto"}})";
  const auto imported = import_job(folder + "/a.yml");
  ASSERT_TRUE(imported.ok());
  const auto request = request_of(*imported, "a.yml");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->layout.zero, 1);
  EXPECT_EQ(request->training.micro_batch, 4);  // its own word is the last
  EXPECT_EQ(imported->left_out,
            std::vector<std::string>{"deepspeed.zero_optimization.round_robin = 3"});
  std::filesystem::remove(folder + "/ds.json");
  EXPECT_EQ(import_job(folder + "/a.yml")->left_out,
            std::vector<std::string>{"deepspeed = \"ds.json\""});
}

TEST(Import, ARegularExpressionIsATarget) {
  const JobRequest request = request_from(
      R"({"peft_type": "LORA", "base_model_name_or_path": "m", "target_modules": ".*_proj"})",
      "c.json");
  EXPECT_EQ(request.method.targets, std::vector<std::string>{".*_proj"});
}

TEST(Import, ModulesTrainedInFullAreTaken) {
  const std::vector<std::string> both = {"embed_tokens", "lm_head"};
  const JobRequest peft = request_from(
      R"({"peft_type": "LORA", "base_model_name_or_path": "m", "target_modules": ["q_proj"],
          "modules_to_save": ["embed_tokens", "lm_head"], "ensure_weight_tying": true})",
      "c.json");
  EXPECT_EQ(peft.method.modules_to_save, both);
  EXPECT_TRUE(peft.method.ensure_weight_tying);
  const JobRequest axolotl = request_from(
      "base_model: m\nadapter: lora\nlora_modules_to_save:\n  - embed_tokens\n  - lm_head\n",
      "a.yml");
  EXPECT_EQ(axolotl.method.modules_to_save, both);
}

TEST(Import, ErrorsNameThePlaceInTheOtherFile) {
  const auto imported = import_job("base_model: m\nlora_r: many\n", "a.yml");
  ASSERT_TRUE(imported.ok());
  EXPECT_EQ(request_of(*imported, "a.yml").error().text(),
            "a.yml#/lora_r: got \"many\", expected 1..16384 values");
  for (const std::string text : {"[1]", "{}", R"({"r": 4})"}) {
    const auto other = import_job(text, "c.json");
    ASSERT_FALSE(other.ok()) << text;
    EXPECT_EQ(other.error().code, ErrorCode::kBadInput);
  }
}

TEST(Yaml, PlainScalarsHaveTypesAndQuotedOnesAreText) {
  const auto json =
      parse_yaml("a: 1\nb: '1'\nc: 1.5\nd: true\ne: ~\nf:\ng: x y\nh: &x [1, 2]\ni: *x\n", "y");
  ASSERT_TRUE(json.ok()) << json.error().text();
  EXPECT_EQ(*json, Json::parse(R"({"a": 1, "b": "1", "c": 1.5, "d": true, "e": null, "f": null,
                                   "g": "x y", "h": [1, 2], "i": [1, 2]})"));
}

TEST(Yaml, RefusesWhatItDoesNotMean) {
  std::string laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n";
  for (char c = 'b'; c <= 'h'; ++c) {
    const std::string last(1, static_cast<char>(c - 1));
    laughs += std::string(1, c) + ": &" + c + " [*" + last;
    for (int i = 0; i < 8; ++i) laughs += ", *" + last;
    laughs += "]\n";
  }
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"a: [1", ": is not YAML: "},
      {"a: 1\na: 2\n", "y:2: has a key twice"},
      {"[a]: 1\n", "y:1: has a key that is no text"},
      {std::string(200, '[') + std::string(200, ']'), "y:1: is nested too deeply"},
      {laughs, "has too many values"}};
  for (const auto& [text, says] : cases) {
    const auto json = parse_yaml(text, "y");
    ASSERT_FALSE(json.ok()) << text;
    EXPECT_NE(json.error().text().find(says), std::string::npos) << json.error().text();
  }
}

}  // namespace
}  // namespace ftplan::tools

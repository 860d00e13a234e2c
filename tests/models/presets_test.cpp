#include "models/presets.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/json.h"
#include "core/model_config.h"
#include "models/family.h"
#include "models/preset_files.h"
#include "tests/models/support.h"

namespace ftplan::models {
namespace {

TEST(Presets, AreThoseOfTheConfigsFolder) {
  std::vector<std::string> names;
  for (const Preset& preset : presets()) names.push_back(preset.name);
  EXPECT_EQ(names, (std::vector<std::string>{"llama2-7b",      "llama2-13b",
                                             "llama2-70b",     "llama3-8b",
                                             "llama3-70b",     "llama3.1-8b",
                                             "llama3.1-70b",   "llama3.1-405b",
                                             "llama3.2-1b",    "llama3.2-3b",
                                             "llama3.3-70b",   "tinyllama-1.1b",
                                             "mistral-7b",     "mistral-7b-v0.3",
                                             "mistral-nemo",   "mistral-small-24b",
                                             "qwen2.5-0.5b",   "qwen2.5-1.5b",
                                             "qwen2.5-3b",     "qwen2.5-7b",
                                             "qwen2.5-14b",    "qwen2.5-32b",
                                             "qwen2.5-72b",    "qwen3-0.6b",
                                             "qwen3-1.7b",     "qwen3-4b",
                                             "qwen3-8b",       "qwen3-14b",
                                             "qwen3-32b",      "phi3-mini",
                                             "phi3-mini-128k", "phi3.5-mini",
                                             "phi3-medium",    "phi4",
                                             "phi4-mini",      "gemma2-2b",
                                             "gemma2-9b",      "gemma2-27b",
                                             "falcon-7b",      "falcon-40b",
                                             "falcon-180b",    "falcon-rw-1b",
                                             "mixtral-8x7b",   "mixtral-8x22b"}));
}

TEST(Presets, CountTheParametersThatTheirMakersPublish) {
  for (const Preset& preset : presets()) {
    EXPECT_EQ(count_parameters(preset.config), preset.parameters) << preset.name;
    EXPECT_EQ(preset.config.name, preset.name);
    EXPECT_FALSE(preset.source.empty()) << preset.name;
  }
}

TEST(Presets, Llama2Of70BillionHasTheShapeOfItsPaper) {
  const Preset* preset = find_preset("llama2-70b");
  ASSERT_NE(preset, nullptr);
  const ModelConfig& c = preset->config;
  // embedding and head, then per layer: two norms; q and o; k and v; gate, up and down; then the
  // last norm
  const std::int64_t layer =
      2 * 8192 + 2 * 8192 * 8192 + 2 * (8 * 128) * 8192 + 3 * 28672 * std::int64_t{8192};
  EXPECT_EQ(preset->parameters, 2 * 32000 * std::int64_t{8192} + 80 * layer + 8192);
  EXPECT_EQ(c.head_size, 128);
  EXPECT_EQ(c.stored, DType::kF16);
}

TEST(Presets, ATiedHeadIsCountedOnce) {
  const Preset* preset = find_preset("llama3.2-1b");
  ASSERT_NE(preset, nullptr);
  EXPECT_TRUE(preset->config.tied_embeddings);
  EXPECT_EQ(preset->config.rope_factor, 32);
}

TEST(Presets, LongContextsOfPhi3BeginBehindThePositionsOfPreTraining) {
  for (const char* name : {"phi3-mini-128k", "phi3.5-mini", "phi4-mini"}) {
    const Preset* preset = find_preset(name);
    ASSERT_NE(preset, nullptr);
    EXPECT_EQ(preset->config.positions, 131072) << name;
    EXPECT_EQ(preset->config.rope_switch(), 4096) << name;
    // sqrt(1 + ln(131072 / 4096) / ln 4096) = sqrt(1 + 5/12)
    EXPECT_DOUBLE_EQ(preset->config.rope_attention_factor, std::sqrt(1 + 5.0 / 12)) << name;
  }
  EXPECT_EQ(find_preset("phi4-mini")->config.rotary_size, /*0.75 * 128=*/96);
}

TEST(Presets, AnUnknownNameIsNone) { EXPECT_EQ(find_preset("llama2-8b"), nullptr); }

// One preset file with one member replaced.
std::string read_with(const std::string& pointer, const Json& value) {
  Json json = Json::parse(preset_files().front().text);
  json[Json::json_pointer(pointer)] = value;
  return error_text(read_preset(json.dump(), "preset"));
}

TEST(Presets, AreReadStrictly) {
  EXPECT_EQ(read_with("/parameters", 7),
            "preset#/parameters: got 7, the configuration has 6738415616");
  EXPECT_EQ(read_with("/config/hidden_sise", 7),
            "preset#/config/hidden_sise: unknown key; did you mean \"hidden_size\"?");
  EXPECT_EQ(read_with("/sources", "x"), "preset#/sources: unknown key; did you mean \"source\"?");
  EXPECT_EQ(read_with("/config/vocab_size", 0),
            "preset#/config/vocab_size: got 0, expected 1..16777216 tokens");
  EXPECT_EQ(error_text(read_preset(R"({"name": "x"})", "preset")), "preset#/repository: missing");
}

}  // namespace
}  // namespace ftplan::models

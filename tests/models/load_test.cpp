#include "models/load.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/text.h"
#include "models/hub_cache.h"
#include "models/presets.h"
#include "tests/models/support.h"

namespace ftplan::models {
namespace {

TEST(LoadModelConfig, TakesAPresetWithoutFiles) {
  const auto source = load_model_config("llama2-7b", {});
  ASSERT_EQ(error_text(source), "ok");
  EXPECT_EQ(source->config, find_preset("llama2-7b")->config);
  EXPECT_EQ(source->folder, "");
}

TEST(LoadModelConfig, TakesAFolderOrItsConfig) {
  const TempFolder temp;
  put_toy_model(temp / "toy");
  for (const std::string& name : {temp / "toy", temp / "toy/", temp / "toy/config.json"}) {
    const auto source = load_model_config(name, {});
    ASSERT_EQ(error_text(source), "ok");
    EXPECT_EQ(source->config.name, "toy");
    EXPECT_EQ(source->config.hidden, 8);
    EXPECT_EQ(source->folder, temp / "toy");
    EXPECT_TRUE(source->notes.empty());
  }
}

TEST(LoadModelConfig, TheElementTypeOfTheFilesWinsAndIsNoted) {
  const TempFolder temp;
  put_toy_model(temp.path(), DType::kBf16);  // config.json says float32
  const auto source = load_model_config(temp.path(), {});
  ASSERT_EQ(error_text(source), "ok");
  EXPECT_EQ(source->config.stored, DType::kBf16);
  EXPECT_EQ(source->notes,
            std::vector<std::string>{"the weights are stored as BF16, config.json says F32"});
}

TEST(LoadModelConfig, NamesTheNearestPreset) {
  std::vector<std::string> names;
  for (const Preset& preset : presets()) names.push_back(preset.name);
  EXPECT_EQ(error_text(load_model_config("lama2-7b", {})),
            "lama2-7b: is no preset, folder or file; did you mean \"llama2-7b\"? Presets: " +
                join(names, ", "));
}

TEST(LoadModelConfig, AFolderWithoutConfigIsNoModel) {
  const TempFolder temp;
  EXPECT_EQ(load_model_config(temp.path(), {}).error().message,
            "has no config.json: is it a Hugging Face model folder?");
}

TEST(LoadModelConfig, FindsTheSnapshotThatMainPointsTo) {
  const TempFolder temp;
  const std::string folder = temp / "hub/models--org--name.v1/";
  put(folder + "refs/main", "abc");
  put_toy_model(folder + "snapshots/abc");
  put_toy_model(folder + "snapshots/older");
  for (const HubEnvironment& environment :
       {HubEnvironment{.hf_hub_cache = temp / "hub", .hf_home = "elsewhere"},
        HubEnvironment{.hf_home = temp.path(), .home = "elsewhere"}}) {
    const auto source = load_model_config("org/name.v1", environment);
    ASSERT_EQ(error_text(source), "ok");
    EXPECT_EQ(source->folder, folder + "snapshots/abc");
    EXPECT_EQ(source->config.name, "org/name.v1");
  }
}

TEST(LoadModelConfig, ASingleSnapshotNeedsNoMain) {
  const TempFolder temp;
  put_toy_model(temp / "hub/models--org--name/snapshots/abc");
  EXPECT_EQ(error_text(load_model_config("org/name", {.hf_home = temp.path()})), "ok");
}

TEST(LoadModelConfig, SaysHowToGetARepositoryThatIsNotThere) {
  EXPECT_EQ(error_text(load_model_config("org/name", {.home = "/nowhere"})),
            "org/name: is no folder, and not in the local Hugging Face cache "
            "(/nowhere/.cache/huggingface/hub): download it with: hf download org/name (a gated "
            "model after its licence was accepted at https://huggingface.co/org/name)");
  EXPECT_EQ(
      error_text(load_model_config("meta-llama/Llama-2-7b-hf", {})),
      "meta-llama/Llama-2-7b-hf: is no folder, and not in the local Hugging Face cache: download "
      "it with: "
      "hf download meta-llama/Llama-2-7b-hf (a gated model after its licence was accepted at "
      "https://huggingface.co/meta-llama/Llama-2-7b-hf); to plan without its files, name the "
      "preset "
      "llama2-7b");
}

TEST(HubCache, FollowsTheVariablesOfHuggingFace) {
  EXPECT_EQ(hub_cache_folder({.hf_hub_cache = "/c", .hf_home = "/h"}), "/c");
  EXPECT_EQ(hub_cache_folder({.hf_home = "/h", .xdg_cache_home = "/x"}), "/h/hub");
  EXPECT_EQ(hub_cache_folder({.xdg_cache_home = "/x", .home = "/u"}), "/x/huggingface/hub");
  EXPECT_EQ(hub_cache_folder({.home = "/u"}), "/u/.cache/huggingface/hub");
  EXPECT_EQ(hub_cache_folder({}), "");
}

TEST(HubCache, ARepositoryHasTwoPlainNames) {
  EXPECT_TRUE(is_repository_name("meta-llama/Llama-3.2-1B"));
  for (const char* text : {"llama", "/llama", "a/b/c", "../b", "a/..", "a b/c", "a/"}) {
    EXPECT_FALSE(is_repository_name(text)) << text;
  }
}

}  // namespace
}  // namespace ftplan::models

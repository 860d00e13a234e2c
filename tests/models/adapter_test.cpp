#include "models/adapter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/job.h"
#include "core/json.h"
#include "core/model_config.h"
#include "core/shape.h"
#include "core/text.h"
#include "models/adapter_config.h"
#include "models/config_reader.h"
#include "models/family.h"
#include "models/presets.h"
#include "models/safetensors_header.h"
#include "tests/models/support.h"

namespace ftplan::models {
namespace {

constexpr const char* kMinimal =
    R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]})";

std::string with(const std::string& key, const std::string& value) {
  Json json = Json::parse(kMinimal);
  json[key] = Json::parse(value);
  return json.dump();
}

std::string error_with(const std::string& key, const std::string& value) {
  return error_text(read_adapter_config(with(key, value), "a.json"));
}

AdapterConfig config_with(const std::string& key, const std::string& value) {
  const auto config = read_adapter_config(with(key, value), "a.json");
  EXPECT_EQ(error_text(config), "ok");
  return config ? *config : AdapterConfig{};
}

AdapterConfig toy_adapter(std::vector<std::string> targets) {
  return {.base_model = "toy", .rank = 3, .alpha = 6, .targets = std::move(targets)};
}

// Of a toy adapter.
AdaptedLinear linear_at(std::int64_t layer, int linear) { return {layer, linear, 3, 6}; }

void put_adapter(const std::string& folder, const AdapterConfig& config, const ModelConfig& model,
                 DType dtype = DType::kF32) {
  put(folder + "/adapter_config.json", render_adapter_config(config, Family::kLlama));
  put_safetensors(folder + "/adapter_model.safetensors",
                  adapter_specs(config, model, {dtype, dtype}));
}

TEST(AdapterConfig, ReadsTheMinimum) {
  const auto config = read_adapter_config(kMinimal, "a.json");
  ASSERT_EQ(error_text(config), "ok");
  EXPECT_EQ(*config, (AdapterConfig{.rank = 4, .alpha = 8, .targets = {"q_proj"}}));
}

TEST(AdaptedLinear, ScalesByTheRankOrItsRoot) {
  const AdaptedLinear linear{.rank = 4, .alpha = 8};
  EXPECT_EQ(linear.scaling(/*rslora=*/false), 8.0 / 4);
  EXPECT_EQ(linear.scaling(/*rslora=*/true), 8 / std::sqrt(4.0));
}

TEST(AdapterConfig, TheFirstPatternThatFitsHolds) {
  AdapterConfig config =
      config_with("rank_pattern", R"({"layers.1.self_attn.q_proj": 2, "q_proj": 3})");
  config.alpha_pattern = {{"v_proj", 5}};
  config.targets = {"q_proj", "v_proj"};
  const auto linears = adapted_linears(config, toy_model(), "a.json");
  ASSERT_EQ(error_text(linears), "ok");
  EXPECT_EQ(*linears,
            (std::vector<AdaptedLinear>{{0, 0, 3, 8}, {0, 2, 4, 5}, {1, 0, 2, 8}, {1, 2, 4, 5}}));
  EXPECT_EQ(error_text(same_in_layers(*linears, toy_model(), "a.json")),
            "a.json#/target_modules: q_proj is adapted alike in 1 of 2 layers: adapters that "
            "differ between layers are not built yet");
}

TEST(AdapterConfig, SurvivesTheWayThroughItsFile) {
  for (const AdapterConfig& config :
       {AdapterConfig{"base", 16, 32, 0.05, false, {"q_proj", "v_proj"}},
        AdapterConfig{"", 8, 12.5, 0, true, {"model.layers.0.self_attn.q_proj"}},
        AdapterConfig{"", 8, 16, 0, false, {"q_proj"}, {{"q_proj", 2}}, {{"q_proj", 0.5}}},
        AdapterConfig{.targets = {"q_proj"},
                      .modules_to_save = {"embed_tokens", "norm"},
                      .ensure_weight_tying = true},
        AdapterConfig{.target_pattern = ".*_proj", .exclude_pattern = R"(.*\.0\..*)"},
        AdapterConfig{.targets = {"q_proj"},
                      .excluded = {"layers.1.self_attn.q_proj"},
                      .layers = {0, 1},
                      .layers_pattern = {"layers"}}}) {
    const auto back = read_adapter_config(render_adapter_config(config, Family::kLlama), "a.json");
    ASSERT_EQ(error_text(back), "ok");
    EXPECT_EQ(*back, config);
  }
}

TEST(AdapterConfig, WritesKeysThatOldVersionsKnow) {
  EXPECT_EQ(render_adapter_config(toy_adapter({"all-linear"}), Family::kLlama), R"({
  "base_model_name_or_path": "toy",
  "bias": "none",
  "fan_in_fan_out": false,
  "inference_mode": true,
  "init_lora_weights": true,
  "lora_alpha": 6,
  "lora_dropout": 0.0,
  "modules_to_save": null,
  "peft_type": "LORA",
  "r": 3,
  "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
  "task_type": "CAUSAL_LM"
}
)");
}

TEST(AdapterConfig, OptionsThatAreOffAreFine) {
  for (const char* off : {"null", "false", "{}", "[]", "0", "\"\""}) {
    EXPECT_EQ(error_with("use_dora", off), "ok") << off;
    EXPECT_EQ(error_with("an_option_to_come", off), "ok") << off;
  }
  EXPECT_EQ(error_with("init_lora_weights", "\"gaussian\""), "ok");
  EXPECT_EQ(error_with("megatron_core", "\"megatron.core\""), "ok");
}

struct Refused {
  const char* key;
  const char* value;
  const char* message;
};

class AdapterConfigRefuses : public testing::TestWithParam<Refused> {};

TEST_P(AdapterConfigRefuses, NamesTheOption) {
  EXPECT_EQ(error_with(GetParam().key, GetParam().value),
            std::string("a.json#/") + GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Options, AdapterConfigRefuses,
    testing::Values(
        Refused{"peft_type", "\"IA3\"",
                "peft_type: got \"IA3\", expected \"LORA\": other methods are not built yet"},
        Refused{
            "task_type", "\"SEQ_CLS\"",
            "task_type: got \"SEQ_CLS\", expected \"CAUSAL_LM\": other tasks are not built yet"},
        Refused{"bias", "\"all\"",
                "bias: got \"all\", expected \"none\": trained biases are not built yet"},
        Refused{"use_dora", "true",
                "use_dora: got true, expected it off: DoRA's magnitudes are not built yet"},
        Refused{"modules_to_save", "\"lm_head\"",
                "modules_to_save: got \"lm_head\", expected a list"},
        Refused{"rank_pattern", "{\"q_proj\": 2.5}",
                "rank_pattern/q_proj: got 2.5, expected 1..16384"},
        Refused{"alpha_pattern", "[2]", "alpha_pattern: got a list, expected an object"},
        Refused{"layers_to_transform", "-1", "layers_to_transform/0: got -1, expected 0..1048576"},
        Refused{"layers_pattern", "\"layer.?\"",
                "layers_pattern: got \"layer.?\": regular expressions are not built yet here, "
                "expected names"},
        Refused{
            "an_option_to_come", "true",
            "an_option_to_come: got true, expected it off: this option of PEFT is not built yet"},
        Refused{"init_lora_weights", "\"pissa\"",
                "init_lora_weights: got \"pissa\": it changes the base weights, so the adapter "
                "does not fit the base "
                "model alone; save it with PEFT's path_initial_model_for_weight_conversion"},
        Refused{"r", "0", "r: got 0, expected 1..16384"},
        Refused{"lora_alpha", "\"8\"", "lora_alpha: got \"8\", expected 0..1e+06"},
        Refused{"target_modules", "null",
                "target_modules: missing: expected a list of module names, a regular expression, "
                "or \"all-linear\""},
        Refused{"target_modules", "[]",
                "target_modules: got an empty list, expected module names"}));

TEST(AdapterConfig, LayersAndARegularExpressionAreNotBoth) {
  EXPECT_EQ(error_text(read_adapter_config(
                R"({"peft_type": "LORA", "target_modules": ".*", "layers_to_transform": [1]})",
                "a.json")),
            "a.json#/layers_to_transform: got a list with a text in target_modules, expected a "
            "list of names there");
}

TEST(AdaptedLinears, AreFoundByNameByEndAndAllAtOnce) {
  const ModelConfig model = toy_model();
  const auto find = [&](std::vector<std::string> targets) {
    const auto adapted = adapted_linears(toy_adapter(std::move(targets)), model, "a.json");
    EXPECT_EQ(error_text(adapted), "ok");
    return adapted ? *adapted : std::vector<AdaptedLinear>{};
  };
  // q_proj 0, k 1, v 2, o 3, gate 4, up 5, down 6
  EXPECT_EQ(find({"q_proj"}), (std::vector<AdaptedLinear>{linear_at(0, 0), linear_at(1, 0)}));
  EXPECT_EQ(find({"v_proj", "q_proj"}),
            (std::vector<AdaptedLinear>{linear_at(0, 0), linear_at(0, 2), linear_at(1, 0),
                                        linear_at(1, 2)}));
  EXPECT_EQ(find({"model.layers.1.mlp.up_proj"}), (std::vector<AdaptedLinear>{linear_at(1, 5)}));
  EXPECT_EQ(find({"self_attn.o_proj", "c_attn"}),
            (std::vector<AdaptedLinear>{linear_at(0, 3), linear_at(1, 3)}));
  EXPECT_EQ(find({"all-linear"}).size(), 2U * 7U);
}

TEST(AdaptedLinears, EmbeddingAndHeadStandBehindTheLayers) {
  AdapterConfig config = toy_adapter({"lm_head", "v_proj", "model.embed_tokens"});
  config.rank_pattern = {{"lm_head", 2}};
  const ModelConfig model = toy_model();
  const auto adapted = adapted_linears(config, model, "a.json");
  ASSERT_EQ(error_text(adapted), "ok");
  const AdaptedLinear embedding{0, 7, 3, 6};
  const AdaptedLinear head{0, 8, 2, 6};
  EXPECT_EQ(*adapted,
            (std::vector<AdaptedLinear>{linear_at(0, 2), linear_at(1, 2), embedding, head}));
  EXPECT_EQ(same_in_layers(*adapted, model, "a.json")->linears,
            (std::vector<AdaptedLinear>{linear_at(0, 2), embedding, head}));
  const std::vector<TensorSpec> specs = adapter_specs(config, model, {});
  ASSERT_EQ(specs.size(), 2U * 4U);
  const std::int64_t rows = model.vocabulary;
  const std::string begin = "base_model.model.";
  EXPECT_EQ(specs[4], (TensorSpec{begin + "model.embed_tokens.lora_embedding_A", DType::kF32,
                                  Shape{3, rows}}));
  EXPECT_EQ(specs[5], (TensorSpec{begin + "model.embed_tokens.lora_embedding_B", DType::kF32,
                                  Shape{model.hidden, 3}}));
  EXPECT_EQ(specs[6],
            (TensorSpec{begin + "lm_head.lora_A.weight", DType::kF32, Shape{2, model.hidden}}));
  EXPECT_EQ(specs[7], (TensorSpec{begin + "lm_head.lora_B.weight", DType::kF32, Shape{rows, 2}}));
}

TEST(AdaptedLinears, AreNotTrainedInFullToo) {
  AdapterConfig config = toy_adapter({"lm_head", "embed_tokens"});
  config.modules_to_save = {"lm_head"};
  const auto adapted = adapted_linears(config, toy_model(), "a.json");
  ASSERT_EQ(error_text(adapted), "ok");
  EXPECT_EQ(*adapted, (std::vector<AdaptedLinear>{linear_at(0, 7)}));
}

TEST(AdaptedLinears, OneAdapterOfATiedPairIsRefused) {
  AdapterConfig config = toy_adapter({"embed_tokens"});
  ModelConfig model = toy_model();
  model.tied_embeddings = true;
  EXPECT_EQ(error_text(adapted_linears(config, model, "a.json")), "ok");
  config.ensure_weight_tying = true;
  EXPECT_EQ(error_text(adapted_linears(config, model, "a.json")),
            "a.json#/target_modules: names model.embed_tokens: one adapter of a tied embedding and "
            "head (ensure_weight_tying) is not built yet");
}

TEST(AdaptedLinears, OtherModulesAreRefused) {
  const auto refuse = [](const char* target) {
    return error_text(adapted_linears(toy_adapter({target}), toy_model(), "a.json"));
  };
  EXPECT_EQ(
      refuse("proj"),
      "a.json#/target_modules: names no linear of this model, which has q_proj, k_proj, v_proj, "
      "o_proj, gate_proj, up_proj, down_proj");
}

TEST(AdaptedLinears, ExpertsAreRefusedAndNoLinears) {
  const ModelConfig model = *read_config(R"({"model_type": "mixtral"})", "c");
  EXPECT_EQ(error_text(adapted_linears(toy_adapter({"q_proj", "w1"}), model, "a.json")),
            "a.json#/target_modules: names model.layers.0.block_sparse_moe.experts.0.w1: adapters "
            "on routers and experts are not built yet");
  EXPECT_EQ(adapted_linears(toy_adapter({"all-linear"}), model, "a.json")->size(), 32U * 4U);
}

TEST(AdaptedLinears, OneSetForAdaptedLayersIsWhatTrainingNeeds) {
  const ModelConfig model = toy_model();
  const AdaptedLinear q{0, 0, 2, 4}, down{0, 6, 3, 4}, q_again{1, 0, 2, 4}, down_again{1, 6, 3, 4};
  const auto all = same_in_layers({q, down, q_again, down_again}, model, "a.json");
  EXPECT_EQ(all->linears, (std::vector<AdaptedLinear>{q, down}));
  EXPECT_TRUE(all->layers.empty());
  const auto one = same_in_layers({q_again, down_again}, model, "a.json");
  EXPECT_EQ(one->linears, (std::vector<AdaptedLinear>{q_again, down_again}));
  EXPECT_EQ(one->layers, std::vector<std::int64_t>{1});
  EXPECT_EQ(error_text(same_in_layers({q, q_again, down_again}, model, "a.json")),
            "a.json#/target_modules: down_proj is adapted alike in 1 of 2 layers: adapters that "
            "differ between layers are not built yet");
}

// The linears that `config` finds in the toy model, such as `0.q_proj`, or the error.
std::string found_by(const AdapterConfig& config) {
  const auto adapted = adapted_linears(config, toy_model(), "a.json");
  if (!adapted) return adapted.error().text();
  std::vector<std::string> names;
  for (const AdaptedLinear& linear : *adapted) {
    names.push_back(std::to_string(linear.layer) + "." +
                    adapted_names(Family::kLlama)[static_cast<std::size_t>(linear.linear)]);
  }
  return join(names, " ");
}

AdapterConfig with_pattern(std::string pattern) {
  AdapterConfig config = toy_adapter({});
  config.target_pattern = std::move(pattern);
  return config;
}

TEST(AdaptedLinears, ARegularExpressionNamesWholeModules) {
  EXPECT_EQ(found_by(with_pattern(R"(model\.layers\.\d+\.self_attn\.[qv]_proj)")),
            "0.q_proj 0.v_proj 1.q_proj 1.v_proj");
  EXPECT_EQ(found_by(with_pattern(R"(.*\.1\.(?!self_attn).*(up|down)_proj)")),
            "1.up_proj 1.down_proj");
  EXPECT_EQ(found_by(with_pattern("lm_head|.*k_proj")), "0.k_proj 1.k_proj 0.lm_head");
  // What Python reads otherwise than PCRE2.
  EXPECT_EQ(found_by(with_pattern(".{,26}k_proj")), "0.k_proj 1.k_proj");
  EXPECT_EQ(found_by(with_pattern(R"(.*[[:k]_proj)")), "0.k_proj 1.k_proj");
  EXPECT_EQ(found_by(with_pattern("q_proj")),
            "a.json#/target_modules: names no linear of this model, which has q_proj, k_proj, "
            "v_proj, o_proj, gate_proj, up_proj, down_proj");
  EXPECT_EQ(found_by(with_pattern("(q_proj")),
            "a.json#/target_modules: the pattern (q_proj is not understood: missing closing "
            "parenthesis");
  EXPECT_TRUE(
      found_by(with_pattern("(.|..)+[!?]"))
          .starts_with("a.json#/target_modules: the pattern takes too many steps on this text"));
}

TEST(AdaptedLinears, ExcludedModulesAreNoTargets) {
  AdapterConfig config = toy_adapter({"q_proj", "v_proj", "mlp.up_proj"});
  config.excluded = {"v_proj", "model.layers.1.mlp.up_proj"};
  EXPECT_EQ(found_by(config), "0.q_proj 0.up_proj 1.q_proj");
  config.excluded.clear();
  config.exclude_pattern = R"(.*\.0\..*|.*mlp.*)";
  EXPECT_EQ(found_by(config), "1.q_proj 1.v_proj");
  config.targets = {"all-linear"};
  EXPECT_EQ(found_by(config), "1.q_proj 1.k_proj 1.v_proj 1.o_proj");
}

TEST(AdaptedLinears, EndsOfNamesAreLookedForInTheLayersToTransform) {
  AdapterConfig config =
      toy_adapter({"q_proj", "lm_head", "embed_tokens", "model.layers.0.mlp.up_proj"});
  config.layers = {1};
  EXPECT_EQ(found_by(config), "0.up_proj 1.q_proj 0.lm_head");
  config.layers_pattern = {"h", "layers"};
  EXPECT_EQ(found_by(config), "0.up_proj 1.q_proj 0.lm_head");
  config.layers_pattern = {"h"};
  EXPECT_EQ(found_by(config), "0.up_proj 0.lm_head");
}

TEST(AdaptedLinears, RegularExpressionsHaveRanksAndAlphas) {
  AdapterConfig config = toy_adapter({"q_proj", "up_proj"});
  config.rank_pattern = {{R"(1\.self_attn\..*)", 5}, {"[qk]_proj", 7}};
  config.alpha_pattern = {{"proj", 1}, {"up_.*", 2}};
  const auto adapted = adapted_linears(config, toy_model(), "a.json");
  ASSERT_EQ(error_text(adapted), "ok");
  EXPECT_EQ(*adapted,
            (std::vector<AdaptedLinear>{{0, 0, 7, 6}, {0, 5, 3, 2}, {1, 0, 5, 6}, {1, 5, 3, 2}}));
}

std::vector<std::string> names_of(const std::vector<Weight>& weights) {
  std::vector<std::string> names;
  for (const Weight& weight : weights) names.push_back(weight.name);
  return names;
}

// What `modules` lead to in the toy model, or the error.
std::string saved_in(const ModelConfig& model, std::vector<std::string> modules,
                     bool ensure_weight_tying = false) {
  AdapterConfig config = toy_adapter({"q_proj"});
  config.modules_to_save = std::move(modules);
  config.ensure_weight_tying = ensure_weight_tying;
  const auto saved = saved_weights(config, model, "a.json");
  return saved ? join(names_of(*saved), " ") : saved.error().text();
}

TEST(SavedWeights, AreFoundByTheEndsOfNames) {
  const ModelConfig model = toy_model();
  EXPECT_EQ(saved_in(model, {}), "");
  EXPECT_EQ(saved_in(model, {"lm_head", "embed_tokens"}),
            "model.embed_tokens.weight lm_head.weight");
  EXPECT_EQ(saved_in(model, {"model.norm"}), "model.norm.weight");
  // As PEFT, with or without a dot before the end.
  EXPECT_EQ(saved_in(model, {"norm"}),
            "model.layers.0.input_layernorm.weight model.layers.0.post_attention_layernorm.weight "
            "model.layers.1.input_layernorm.weight model.layers.1.post_attention_layernorm.weight "
            "model.norm.weight");
  const ModelConfig falcon =
      *read_config(R"({"model_type": "falcon", "num_hidden_layers": 1})", "c");
  EXPECT_EQ(saved_in(falcon, {"input_layernorm", "ln_f"}),
            "transformer.h.0.input_layernorm.weight transformer.h.0.input_layernorm.bias "
            "transformer.ln_f.weight transformer.ln_f.bias");
}

TEST(SavedWeights, OfATiedPairAreOneTensor) {
  ModelConfig model = toy_model();
  model.tied_embeddings = true;
  EXPECT_EQ(saved_in(model, {"lm_head"}, true), "model.embed_tokens.weight");
  EXPECT_EQ(saved_in(model, {"lm_head"}),
            "a.json#/modules_to_save: the embedding and the head of this model are one tensor, and "
            "training them apart, as PEFT does is not built yet: train them as one with "
            "--ensure-weight-tying");
  model.family = Family::kFalcon;
  EXPECT_EQ(saved_in(model, {"lm_head"}, true),
            "a.json#/modules_to_save: the embedding and the head of this model are one tensor, and "
            "PEFT keeps such pairs together only where they are embed_tokens and lm_head: use "
            "--method full");
}

TEST(SavedWeights, OtherModulesAreRefused) {
  EXPECT_EQ(saved_in(toy_model(), {"v_proj"}),
            "a.json#/modules_to_save: got \"v_proj\": a linear in full beside adapters is not "
            "built yet: adapt it, or use --method full");
  for (const char* none : {"", "wte", "layers.0.input_layernorm"}) {
    EXPECT_EQ(saved_in(toy_model(), {none}),
              "a.json#/modules_to_save: got \"" + std::string(none) +
                  "\", expected some of model.embed_tokens,input_layernorm,"
                  "post_attention_layernorm,model.norm,lm_head");
  }
}

// The names in core are those of the tables here.
TEST(SavedWeights, CanBeEveryEdgeAndNormOfEveryFamily) {
  for (const Preset& preset : presets()) {
    ModelConfig model = preset.config;
    model.tied_embeddings = false;
    const Blueprint blueprint = make_blueprint(model);
    const std::vector<std::string> modules = whole_module_names(model);
    std::vector<Weight> weights = blueprint.layer;
    weights.insert(weights.end(), {blueprint.embedding, blueprint.final_norm, blueprint.head});
    std::vector<std::string> found;
    for (const Weight& weight : weights) {
      const bool wanted = weight.kind == WeightKind::kNorm || weight.kind == WeightKind::kHead ||
                          weight.kind == WeightKind::kEmbedding;
      EXPECT_EQ(is_of(modules, weight.name), wanted) << preset.name << " " << weight.name;
      if (wanted && weight.name.ends_with(".weight")) found.push_back(weight.name);
    }
    EXPECT_EQ(found.size(), modules.size()) << preset.name;
  }
}

TEST(Adapter, HoldsWeightsTrainedInFull) {
  const TempFolder temp;
  ModelConfig model = toy_model();
  model.tied_embeddings = true;
  AdapterConfig config = toy_adapter({"q_proj"});
  config.modules_to_save = {"embed_tokens", "model.norm"};
  config.ensure_weight_tying = true;
  put(temp / "adapter_config.json", render_adapter_config(config, Family::kLlama));
  // As PEFT writes it, in the base's type, and the head beside the embedding that it is.
  const auto specs = adapter_specs(config, model, {.weights = DType::kBf16});
  ASSERT_EQ(specs.size(), 2U * 2U + 3U);
  const std::string names[] = {"base_model.model.model.embed_tokens.weight",
                               "base_model.model.lm_head.weight",
                               "base_model.model.model.norm.weight"};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(specs[4 + i].name, names[i]);
    EXPECT_EQ(specs[4 + i].dtype, DType::kBf16);
  }
  put_safetensors(temp / "adapter_model.safetensors", specs);
  EXPECT_EQ(error_text(Adapter::open(temp.path(), model), temp.path()),
            "adapter_model.safetensors: " + names[0] + " and " + names[1] +
                " differ, but this model ties them");

  auto writer = AdapterWriter::create(temp.path(), config, model, {.weights = DType::kBf16});
  ASSERT_EQ(error_text(writer), "ok");
  for (std::size_t i = 0; i < 4; ++i) {
    const auto layer = static_cast<std::int64_t>(i / 2);
    const LoraMatrix matrix = i % 2 == 0 ? LoraMatrix::kA : LoraMatrix::kB;
    ASSERT_EQ(error_text(writer->write(linear_at(layer, 0), matrix, toy_bytes(specs[i]))), "ok");
  }
  for (const std::size_t i : {4, 6}) {
    const std::string name = specs[i].name.substr(std::string("base_model.model.").size());
    ASSERT_EQ(error_text(writer->write(name, toy_bytes(specs[i]))), "ok");
  }
  ASSERT_EQ(error_text(writer->finish()), "ok");
  const auto adapter = Adapter::open(temp.path(), model);
  ASSERT_EQ(error_text(adapter), "ok");
  ASSERT_EQ(adapter->weights().size(), 2U);
  ASSERT_NE(adapter->find_weight("model.embed_tokens.weight"), nullptr);
  EXPECT_EQ(values_of(*adapter->find_weight("model.embed_tokens.weight")), toy_values(specs[4]));
  EXPECT_EQ(adapter->find_weight("lm_head.weight"), nullptr);
}

TEST(Adapter, BringsRowsOfNewTokens) {
  const ModelConfig model = toy_model();
  const ModelConfig grown = with_vocabulary(model, model.vocabulary + 3);
  AdapterConfig config = toy_adapter({"q_proj"});
  config.modules_to_save = {"embed_tokens", "lm_head"};
  const TempFolder with_rows, without;
  put_adapter(with_rows.path(), config, grown);
  put_adapter(without.path(), toy_adapter({"q_proj"}), model);
  EXPECT_EQ(adapted_vocabulary(with_rows.path(), model), model.vocabulary + 3);
  EXPECT_EQ(adapted_vocabulary(without.path(), model), model.vocabulary);
  EXPECT_EQ(adapted_vocabulary("nowhere", model), model.vocabulary);
  EXPECT_EQ(error_text(Adapter::open(with_rows.path(), grown)), "ok");
  EXPECT_NE(error_text(Adapter::open(with_rows.path(), model)), "ok");
  EXPECT_EQ(as_stored(grown), model);
  EXPECT_EQ(weight_table_digest(grown), weight_table_digest(model));
}

TEST(Adapter, HasPeftsNamesAndShapes) {
  const std::vector<TensorSpec> specs = adapter_specs(toy_adapter({"k_proj", "down_proj"}),
                                                      toy_model(), {DType::kBf16, DType::kBf16});
  ASSERT_EQ(specs.size(), 2U * 2U * 2U);
  // k_proj is [kv_heads * head_size, hidden] = [4, 8]; down_proj is [hidden, intermediate] = [8,
  // 12]
  EXPECT_EQ(specs[0], (TensorSpec{"base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight",
                                  DType::kBf16, Shape{3, 8}}));
  EXPECT_EQ(specs[1], (TensorSpec{"base_model.model.model.layers.0.self_attn.k_proj.lora_B.weight",
                                  DType::kBf16, Shape{4, 3}}));
  EXPECT_EQ(specs[7], (TensorSpec{"base_model.model.model.layers.1.mlp.down_proj.lora_B.weight",
                                  DType::kBf16, Shape{8, 3}}));
}

TEST(Adapter, WhatIsWrittenIsReadAndHasThePredictedSize) {
  const TempFolder temp;
  const ModelConfig model = toy_model();
  const AdapterConfig config = toy_adapter({"q_proj", "v_proj"});
  auto writer = AdapterWriter::create(temp.path(), config, model, {DType::kF16, DType::kF16});
  ASSERT_EQ(error_text(writer), "ok");
  const auto adapted = adapted_linears(config, model, "");
  for (const AdaptedLinear& linear : *adapted) {
    for (const LoraMatrix matrix : {LoraMatrix::kB, LoraMatrix::kA}) {
      const std::string name = adapter_tensor_name(linear, matrix, model);
      for (const TensorSpec& spec : adapter_specs(config, model, {DType::kF16, DType::kF16})) {
        if (spec.name != name) continue;
        ASSERT_EQ(error_text(writer->write(linear, matrix, toy_bytes(spec))), "ok");
      }
    }
  }
  ASSERT_EQ(error_text(writer->finish()), "ok");

  const std::size_t bytes =
      get(temp / "adapter_config.json").size() + get(temp / "adapter_model.safetensors").size();
  EXPECT_EQ(adapter_disk_bytes(config, model, {DType::kF16, DType::kF16}).value,
            static_cast<std::int64_t>(bytes));
  const auto adapter = Adapter::open(temp.path(), model);
  ASSERT_EQ(error_text(adapter), "ok");
  EXPECT_EQ(adapter->config(), config);
  ASSERT_EQ(adapter->modules().size(), 4U);
  const AdapterModule& last = adapter->modules()[3];
  EXPECT_EQ(last.linear, linear_at(1, 2));
  EXPECT_EQ(values_of(*last.b), toy_values({last.b->name, DType::kF16, {4, 3}}));
}

TEST(Adapter, OfAnotherModelIsNamedAsSuch) {
  const TempFolder temp;
  ModelConfig wide = toy_model();
  wide.hidden = 16;
  put_adapter(temp.path(), toy_adapter({"q_proj"}), wide);
  EXPECT_EQ(error_text(Adapter::open(temp.path(), toy_model()), temp.path()),
            "adapter_model.safetensors: was made for another model: its base was \"toy\"; "
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight is [3, 16], this model "
            "needs [3, 8]");
}

TEST(Adapter, MoreOrFewerLayersAreNamed) {
  const TempFolder temp;
  ModelConfig other = toy_model();
  other.layers = 1;
  put_adapter(temp.path(), toy_adapter({"q_proj"}), other);
  EXPECT_EQ(error_text(Adapter::open(temp.path(), toy_model()), temp.path()),
            "adapter_model.safetensors: lacks "
            "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight [3, 8], "
            "so it is cut off or was made for another model: its base was \"toy\"");
  other.layers = 3;
  put_adapter(temp.path(), toy_adapter({"q_proj"}), other);
  EXPECT_EQ(error_text(Adapter::open(temp.path(), toy_model()), temp.path()),
            "adapter_model.safetensors: holds "
            "\"base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight\" "
            "[3, 8], which adapter_config.json does not lead to in this model");
}

TEST(Adapter, RefusesFoldersThatAreNone) {
  const TempFolder temp;
  EXPECT_EQ(Adapter::open(temp.path(), toy_model()).error().message,
            "is no PEFT adapter: it has no adapter_config.json");
  put(temp / "adapter_config.json", kMinimal);
  put(temp / "adapter_model.bin", "");
  EXPECT_EQ(Adapter::open(temp.path(), toy_model()).error().message,
            "has its weights in adapter_model.bin, ftplan reads safetensors: load it with PEFT and "
            "save_pretrained it "
            "again");
}

}  // namespace
}  // namespace ftplan::models

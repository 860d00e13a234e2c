#include "models/config_reader.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/json.h"
#include "core/model_config.h"
#include "models/family.h"
#include "tests/models/support.h"

namespace ftplan::models {
namespace {

// A config.json with one key replaced or added.
std::string with(const std::string& key, const std::string& value) {
  Json json = Json::parse(toy_config_json());
  json[key] = Json::parse(value);
  return json.dump();
}

ModelConfig read_ok(const std::string& text) {
  const auto config = read_config(text, "config.json");
  EXPECT_EQ(error_text(config), "ok");
  return config ? *config : ModelConfig{};
}

std::string error_with(const std::string& key, const std::string& value) {
  return error_text(read_config(with(key, value), "config.json"));
}

TEST(ReadConfig, FillsInTheDefaultsOfTransformers) {
  const ModelConfig config = read_ok(R"({"model_type": "llama"})");
  ModelConfig expected;  // LlamaConfig(): Llama 1 7B
  expected.stored = DType::kF32;
  EXPECT_EQ(config, expected);
  EXPECT_EQ(count_parameters(config), /*Llama 1 7B*/ 6738415616);
}

TEST(ReadConfig, ReadsGroupedKeysAndDerivesTheHeadSize) {
  const ModelConfig config = read_ok(toy_config_json());
  EXPECT_EQ(config.heads, 2);
  EXPECT_EQ(config.kv_heads, 1);
  EXPECT_EQ(config.head_size, /*hidden / heads=*/8 / 2);
}

TEST(ReadConfig, KeysWithoutAnInterestAreIgnoredWhateverTheyHold) {
  EXPECT_EQ(read_ok(with("_name_or_path", "[1, {}]")), toy_model());
  EXPECT_EQ(read_ok(with("use_cache", "\"maybe\"")), toy_model());
}

TEST(ReadConfig, NullStandsForWhatIsDerived) {
  EXPECT_EQ(read_ok(with("num_key_value_heads", "null")).kv_heads, 2);
  EXPECT_EQ(read_ok(with("head_dim", "null")).head_size, 4);
  EXPECT_EQ(read_ok(with("rope_scaling", "null")), toy_model());
  EXPECT_EQ(read_ok(with("bos_token_id", "null")).bos_token, -1);
}

TEST(ReadConfig, AHeadMayBeWiderThanItsShareOfTheHiddenValues) {
  const ModelConfig config = read_ok(with("head_dim", "6"));
  EXPECT_EQ(config.head_size, 6);
  EXPECT_EQ(make_blueprint(config).layer[1].shape, (Shape{2 * 6, 8}));  // q_proj
}

TEST(ReadConfig, KeepsTheFirstOfSeveralEndTokensAndSaysSo) {
  const auto reading = read_config_with_notes(with("eos_token_id", "[7, 8, 9]"), "config.json");
  ASSERT_EQ(error_text(reading), "ok");
  EXPECT_EQ(reading->config.eos_token, 7);
  EXPECT_EQ(reading->notes,
            std::vector<std::string>{"eos_token_id lists 3 tokens: ftplan uses the first, 7"});
}

TEST(ReadConfig, TheNewNameOfTheElementTypeWins) {
  EXPECT_EQ(read_ok(with("torch_dtype", "\"float16\"")).stored, DType::kF16);
  EXPECT_EQ(read_ok(with("dtype", "\"bfloat16\"")).stored, DType::kBf16);
  EXPECT_EQ(error_with("dtype", "\"float64\""),
            "config.json#/dtype: got \"float64\", expected float32, bfloat16 or float16");
}

TEST(ReadConfig, ReadsOldAndNewRopeKeys) {
  EXPECT_EQ(read_ok(with("rope_theta", "500000")).rope_theta, 500000);
  ModelConfig linear = toy_model();
  linear.rope_scaling = RopeScaling::kLinear;
  linear.rope_factor = 4;
  EXPECT_EQ(read_ok(with("rope_scaling", R"({"type": "linear", "factor": 4.0})")), linear);
  EXPECT_EQ(read_ok(with("rope_parameters", R"({"rope_type": "linear", "factor": 4})")), linear);
  linear.rope_theta = 5;
  EXPECT_EQ(
      read_ok(with("rope_parameters", R"({"rope_type": "linear", "factor": 4, "rope_theta": 5})")),
      linear);
  EXPECT_EQ(
      read_ok(with("rope_parameters", R"({"rope_type": "default", "rope_theta": 7})")).rope_theta,
      7);
}

TEST(ReadConfig, ReadsTheRopeOfLlama3) {
  const ModelConfig config = read_ok(
      with("rope_scaling",
           R"({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
          "original_max_position_embeddings": 12})"));
  EXPECT_EQ(config.rope_scaling, RopeScaling::kLlama3);
  EXPECT_EQ(config.rope_factor, 8);
  EXPECT_EQ(config.rope_low_frequency_factor, 1);
  EXPECT_EQ(config.rope_high_frequency_factor, 4);
  EXPECT_EQ(config.rope_original_positions, 12);
}

TEST(ReadConfig, WithoutOriginalPositionsLlama3TakesTheModels) {
  const ModelConfig config = read_ok(
      with("rope_scaling",
           R"({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4})"));
  EXPECT_EQ(config.rope_original_positions, config.positions);
}

TEST(ReadConfig, DynamicRopeIsGoodForFactorTimesItsPositions) {
  const std::int64_t positions = toy_model().positions;
  const ModelConfig config = read_ok(with("rope_scaling", R"({"type": "dynamic", "factor": 2.5})"));
  EXPECT_EQ(config.rope_scaling, RopeScaling::kDynamic);
  EXPECT_EQ(config.rope_original_positions, positions);
  EXPECT_EQ(config.positions, positions * 5 / 2);
  EXPECT_TRUE(config.rope_follows_length(positions + 1));
  EXPECT_FALSE(config.rope_follows_length(positions));
}

TEST(ReadConfig, YarnReadsQwensLongContext) {
  const ModelConfig config = read_ok(
      R"({"model_type": "qwen2", "max_position_embeddings": 32768, "rope_scaling":
          {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}})");
  EXPECT_EQ(config.rope_scaling, RopeScaling::kYarn);
  EXPECT_EQ(config.positions, 4 * 32768);
  EXPECT_EQ(config.rope_original_positions, 32768);
  EXPECT_DOUBLE_EQ(config.rope_attention_factor, 0.1 * std::log(4.0) + 1);
  EXPECT_EQ(config.rope_fast_turns, 32);
  EXPECT_EQ(config.rope_slow_turns, 1);
  EXPECT_TRUE(config.rope_truncated);
  EXPECT_FALSE(config.rope_follows_length(131072));
}

TEST(ReadConfig, YarnsAttentionFactorIsGivenOrTheRatioOfTwoScales) {
  const auto factor = [](const std::string& more) {
    return read_ok(with("rope_parameters", R"({"rope_type": "yarn", "factor": 2, )" + more + "}"))
        .rope_attention_factor;
  };
  EXPECT_EQ(factor(R"("attention_factor": 1.5, "mscale": 2, "mscale_all_dim": 1)"), 1.5);
  const double ln = std::log(2.0);
  EXPECT_DOUBLE_EQ(factor(R"("mscale": 2, "mscale_all_dim": 1)"), (0.2 * ln + 1) / (0.1 * ln + 1));
  EXPECT_DOUBLE_EQ(factor(R"("mscale": 2)"), 0.1 * ln + 1);
  const ModelConfig config =
      read_ok(with("rope_parameters", R"({"rope_type": "yarn", "factor": null, "truncate": false,
           "beta_fast": 9, "beta_slow": 0, "original_max_position_embeddings": 4})"));
  EXPECT_EQ(config.rope_factor, static_cast<double>(toy_model().positions) / 4);
  EXPECT_EQ(config.rope_fast_turns, 9);
  EXPECT_EQ(config.rope_slow_turns, /*0 counts as none*/ 1);
  EXPECT_FALSE(config.rope_truncated);
}

// Phi-3 with heads of 8 values.
std::string longrope(const std::string& rope, const std::string& more = "") {
  return R"({"model_type": "phi3", "hidden_size": 32, "num_attention_heads": 4,
             "max_position_embeddings": 16384, "rope_scaling": {)" +
         rope + "}" + more + "}";
}

TEST(ReadConfig, LongropeHasTwoSetsOfFactors) {
  const std::string lists = R"("type": "su", "short_factor": [1, 1, 2, 2],
                               "long_factor": [1, 2, 3, 4.5])";
  const ModelConfig config = read_ok(longrope(lists));
  EXPECT_EQ(config.rope_scaling, RopeScaling::kLongrope);
  EXPECT_EQ(config.positions, 16384);
  EXPECT_EQ(config.rope_original_positions, /*default of Phi-3*/ 4096);
  EXPECT_EQ(config.rope_factor, 4);
  EXPECT_DOUBLE_EQ(config.rope_attention_factor, std::sqrt(1 + std::log(4.0) / std::log(4096.0)));
  EXPECT_EQ(config.rope_short_factors, (std::vector<double>{1, 1, 2, 2}));
  EXPECT_EQ(config.rope_long_factors, (std::vector<double>{1, 2, 3, 4.5}));
  EXPECT_EQ(config.rope_switch(), 4096);
  EXPECT_EQ(error_text(read_config(longrope(lists, R"(, "partial_rotary_factor": 0.5)"), "c")),
            "c#/rope_scaling/short_factor: got 4 numbers, expected one for each of 2 frequencies: "
            "half of what is rotated of a head");
}

TEST(ReadConfig, Phi3RotatesAPartOfEachHead) {
  const ModelConfig config = read_ok(longrope("", R"(, "partial_rotary_factor": 0.75)"));
  EXPECT_EQ(config.rotary_size, /*0.75*8=*/6);
  EXPECT_EQ(config.rotated_size(), 6);
  EXPECT_EQ(error_text(read_config(longrope("", R"(, "partial_rotary_factor": 0.4)"), "c")),
            "c#/partial_rotary_factor: got 0.4, which rotates 3 of 8 values of a head: expected an "
            "even number of them");
}

TEST(ReadConfig, MistralSeesAWindowUnlessItSaysNull) {
  const std::string defaults = R"({"model_type": "mistral"})";
  EXPECT_EQ(read_ok(defaults).window, 4096);
  EXPECT_EQ(read_ok(defaults).kv_heads, 8);
  EXPECT_EQ(count_parameters(read_ok(defaults)), /*Mistral 7B*/ 7241732096);
  EXPECT_EQ(read_ok(R"({"model_type": "mistral", "sliding_window": null})").window, 0);
  EXPECT_EQ(read_ok(R"({"model_type": "mistral", "sliding_window": 7})").window, 7);
  EXPECT_EQ(
      error_text(read_config(R"({"model_type": "mistral", "sliding_window": 0})", "config.json")),
      "config.json#/sliding_window: got 0, expected 1..16777216 tokens");
}

TEST(ReadConfig, MixtralHasARouterAndExpertsInPlaceOfAnMlp) {
  const ModelConfig config = read_ok(R"({"model_type": "mixtral"})");
  EXPECT_EQ(config.experts, 8);
  EXPECT_EQ(config.experts_per_token, 2);
  EXPECT_EQ(config.rope_theta, 1e6);
  EXPECT_EQ(config.window, 0);
  EXPECT_EQ(count_parameters(config), /*Mixtral 8x7B*/ 46702792704);
  const ModelConfig few = read_ok(
      R"({"model_type": "mixtral", "hidden_size": 32, "num_attention_heads": 8, "head_dim": 4,
          "intermediate_size": 8, "num_local_experts": 2})");
  std::vector<std::string> experts;
  for (const Weight& weight : make_blueprint(few).layer) {
    if (weight.kind == WeightKind::kExpert) experts.push_back(weight.name + weight.shape.text());
  }
  const std::string of = "block_sparse_moe.experts.";
  EXPECT_EQ(experts,
            (std::vector<std::string>{"block_sparse_moe.gate.weight[2, 32]",
                                      of + "0.w1.weight[8, 32]", of + "1.w1.weight[8, 32]",
                                      of + "0.w3.weight[8, 32]", of + "1.w3.weight[8, 32]",
                                      of + "0.w2.weight[32, 8]", of + "1.w2.weight[32, 8]"}));
}

TEST(ReadConfig, MixtralRefusesWhatItCannotRoute) {
  const auto error = [](const std::string& more) {
    return error_text(read_config(R"({"model_type": "mixtral", )" + more + "}", "c"));
  };
  EXPECT_EQ(error(R"("output_router_logits": true)"),
            "c#/output_router_logits: got true, expected false: the loss that balances experts is "
            "not built yet; transformers leaves it out, too, where this is false");
  EXPECT_EQ(error(R"("router_jitter_noise": 0.1)"),
            "c#/router_jitter_noise: got 0.1, expected 0.0: noise before the router is not built "
            "yet");
  EXPECT_EQ(error(R"("num_experts_per_tok": 9)"),
            "c#/num_experts_per_tok: got 9 experts for a token of 8: expected at least one and no "
            "more than there are");
  EXPECT_EQ(error(R"("hidden_size": 32, "num_attention_heads": 8, "intermediate_size": 9)"),
            "c#/intermediate_size: got 9, which times hidden_size is 288 values: experts are not "
            "built yet but of a multiple of 256 values");
}

TEST(ReadConfig, Qwen3HasHeadsOfTheirOwnSizeAndANormForThem) {
  const ModelConfig config = read_ok(R"({"model_type": "qwen3", "num_attention_heads": 64})");
  EXPECT_EQ(config.head_size, 128);
  EXPECT_FALSE(config.attention_bias);
  std::vector<std::string> norms;
  for (const Weight& weight : make_blueprint(config).layer) {
    if (weight.kind == WeightKind::kNorm && weight.shape == Shape{128})
      norms.push_back(weight.name);
  }
  EXPECT_EQ(norms,
            (std::vector<std::string>{"self_attn.q_norm.weight", "self_attn.k_norm.weight"}));
}

TEST(ReadConfig, Phi3KeepsItsLinearsFused) {
  const ModelConfig config = read_ok(R"({"model_type": "phi3"})");
  EXPECT_EQ(config.window, 0);
  EXPECT_EQ(config.head_size, /*hidden / heads=*/3072 / 32);
  std::vector<std::string> matrices;
  for (const Weight& weight : make_blueprint(config).layer) {
    if (weight.kind == WeightKind::kMatrix) matrices.push_back(weight.name + weight.shape.text());
  }
  EXPECT_EQ(matrices,
            (std::vector<std::string>{
                "self_attn.qkv_proj.weight[9216, 3072]", "self_attn.o_proj.weight[3072, 3072]",
                "mlp.gate_up_proj.weight[16384, 3072]", "mlp.down_proj.weight[3072, 8192]"}));
  EXPECT_EQ(
      error_text(
          read_config(R"({"model_type": "phi3", "rope_scaling": {"type": "linear", "factor": 2}})",
                      "config.json")),
      "config.json#/rope_scaling/type: rotary scaling \"linear\" is not built yet: expected one of "
      "default, longrope, su, yarn; without scaling the model works up to its positions of "
      "pre-training");
  EXPECT_EQ(
      error_text(read_config(R"({"model_type": "phi3", "resid_pdrop": 0.1})", "config.json")),
      "config.json#/resid_pdrop: got 0.1, expected 0.0: dropout on the residual stream is not "
      "built yet");
}

TEST(ReadConfig, Gemma2HasCapsAndAWindowInEverySecondLayer) {
  const ModelConfig config = read_ok(R"({"model_type": "gemma2"})");
  EXPECT_EQ(config.window, 4096);
  EXPECT_TRUE(config.has_window(0));
  EXPECT_FALSE(config.has_window(1));
  EXPECT_TRUE(config.has_window(2));
  EXPECT_EQ(config.attention_cap, 50);
  EXPECT_EQ(config.logit_cap, 30);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_EQ(read_ok(R"({"model_type": "gemma2", "attn_logit_softcapping": null})").attention_cap,
            0);
  EXPECT_EQ(error_text(read_config(
                R"({"model_type": "gemma2", "use_bidirectional_attention": true})", "c.json")),
            "c.json#/use_bidirectional_attention: got true, expected false: ftplan trains causal "
            "language models");
}

std::string falcon_with(const std::string& keys) {
  return R"({"model_type": "falcon", "num_attention_heads": 8, "hidden_size": 64, )" + keys + "}";
}

std::vector<std::string> layer_names(const ModelConfig& config) {
  std::vector<std::string> names;
  for (const Weight& weight : make_blueprint(config).layer)
    names.push_back(weight.name + weight.shape.text());
  return names;
}

TEST(ReadConfig, Falcon7BHasOneKeyHeadAndOneNorm) {
  const ModelConfig config = read_ok(falcon_with(R"("num_kv_heads": 8, "bias": false)"));
  EXPECT_EQ(config.kv_heads, 1);
  EXPECT_EQ(config.intermediate, 4 * 64);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_EQ(
      layer_names(config),
      (std::vector<std::string>{
          "input_layernorm.weight[64]", "input_layernorm.bias[64]",
          "self_attention.query_key_value.weight[80, 64]", "self_attention.dense.weight[64, 64]",
          "mlp.dense_h_to_4h.weight[256, 64]", "mlp.dense_4h_to_h.weight[64, 256]"}));
  EXPECT_EQ(read_ok(falcon_with(R"("ffn_hidden_size": 100)")).intermediate, 100);
  EXPECT_EQ(read_ok(falcon_with(R"("n_embed": 32)")).head_size, 32 / 8);
}

TEST(ReadConfig, Falcon40BHasGroupsOfHeadsAndANormForEachBranch) {
  const std::string newer = R"("new_decoder_architecture": true, "num_kv_heads": 2)";
  const ModelConfig config = read_ok(falcon_with(newer));
  EXPECT_EQ(config.kv_heads, 2);
  EXPECT_EQ(
      layer_names(config),
      (std::vector<std::string>{
          "ln_attn.weight[64]", "ln_attn.bias[64]", "ln_mlp.weight[64]", "ln_mlp.bias[64]",
          "self_attention.query_key_value.weight[96, 64]", "self_attention.dense.weight[64, 64]",
          "mlp.dense_h_to_4h.weight[256, 64]", "mlp.dense_4h_to_h.weight[64, 256]"}));
  const ModelConfig shared = read_ok(falcon_with(newer + R"(, "num_ln_in_parallel_attn": 1)"));
  EXPECT_EQ(layer_names(shared).front(), "input_layernorm.weight[64]");
  EXPECT_EQ(layer_names(shared).size(), layer_names(config).size() - 2);
}

TEST(ReadConfig, FalconRwHasAlibiBiasesAndOneBranchAfterTheOther) {
  const ModelConfig config = read_ok(
      falcon_with(R"("alibi": true, "bias": true, "multi_query": false, "parallel_attn": false)"));
  EXPECT_TRUE(config.alibi);
  EXPECT_EQ(config.kv_heads, 8);
  const auto names = layer_names(config);
  EXPECT_EQ(names.size(), /*norms*/ 4U + /*linears*/ 8U);
  EXPECT_EQ(names[3], "self_attention.query_key_value.bias[192]");
  EXPECT_EQ(names[6], "post_attention_layernorm.weight[64]");
  EXPECT_EQ(make_blueprint(config).final_norm_bias->name, "transformer.ln_f.bias");
}

TEST(ReadConfig, WhatNoFalconIsIsRefused) {
  const auto refused = [](const std::string& keys) {
    return error_text(read_config(falcon_with(keys), "c.json"));
  };
  EXPECT_EQ(refused(R"("new_decoder_architecture": true, "parallel_attn": false)"),
            "c.json#/parallel_attn: got false, expected true: new_decoder_architecture has "
            "attention and MLP side by side");
  EXPECT_EQ(refused(R"("num_ln_in_parallel_attn": 2)"),
            "c.json#/num_ln_in_parallel_attn: got 2, expected 1: only new_decoder_architecture has "
            "a norm for each");
  EXPECT_EQ(refused(R"("multi_query": false, "num_kv_heads": 2)"),
            "c.json#/num_kv_heads: got 2, expected 8, the number of heads: only "
            "new_decoder_architecture has groups of them");
  EXPECT_EQ(refused(R"("n_head": 8)"),
            "c.json#/n_head: transformers reads it no more: expected num_attention_heads");
  EXPECT_EQ(refused(R"("activation": "relu")"),
            "c.json#/activation: got \"relu\", expected \"gelu\": other activations are not built "
            "yet");
  EXPECT_EQ(refused(R"("hidden_dropout": 0.1)"),
            "c.json#/hidden_dropout: got 0.1, expected 0.0: dropout on the residual stream is not "
            "built yet");
  EXPECT_EQ(error_text(read_config(R"({"model_type": "RefinedWebModel"})", "c.json")),
            "c.json#/model_type: got \"RefinedWebModel\", which transformers calls \"falcon\" "
            "today: take the config.json that the model has now");
}

std::string qwen2_with(const std::string& keys) {
  return R"({"model_type": "qwen2", "num_hidden_layers": 4, "sliding_window": 7, )" + keys + "}";
}

TEST(ReadConfig, Qwen2HasBiasesAndAWindowOnlyWhereItIsUsed) {
  EXPECT_TRUE(read_ok(R"({"model_type": "qwen2"})").attention_bias);
  EXPECT_EQ(read_ok(R"({"model_type": "qwen2"})").window, 0);
  EXPECT_EQ(read_ok(qwen2_with(R"("use_sliding_window": false)")).window, 0);
  EXPECT_EQ(read_ok(qwen2_with(R"("use_sliding_window": true)")).window, 0);  // from layer 28 on
  const ModelConfig config =
      read_ok(qwen2_with(R"("use_sliding_window": true, "max_window_layers": 2)"));
  EXPECT_FALSE(config.has_window(1));
  EXPECT_TRUE(config.has_window(2));
  EXPECT_TRUE(config.has_window(3));
}

TEST(ReadConfig, TypesOfLayersSayWhichHaveTheWindow) {
  const std::string full = "\"full_attention\"";
  const std::string slides = "\"sliding_attention\"";
  const auto read = [&](const std::string& types) {
    return read_config(qwen2_with(R"("use_sliding_window": true, "layer_types": [)" + types + "]"),
                       "config.json");
  };
  const auto config = read(full + "," + slides + "," + full + "," + slides);
  ASSERT_EQ(error_text(config), "ok");
  EXPECT_EQ(config->window_first, 1);
  EXPECT_EQ(config->window_every, 2);
  EXPECT_EQ(read(full + "," + full + "," + full + "," + full)->window, 0);
  EXPECT_EQ(error_text(read(slides + "," + slides + "," + full + "," + slides)),
            "config.json#/layer_types: windows in layers that are not equally far apart are not "
            "built yet");
  EXPECT_EQ(error_text(read(full)),
            "config.json#/layer_types: got 1 words, expected one for each of 4 layers");
  EXPECT_EQ(error_text(read(full + "," + full + "," + full + ",\"chunked_attention\"")),
            "config.json#/layer_types/3: \"chunked_attention\" is not built yet: expected "
            "sliding_attention or full_attention");
  EXPECT_EQ(error_text(read_config(qwen2_with(R"("layer_types": ["full_attention",
            "full_attention", "full_attention", "sliding_attention"])"),
                                   "config.json")),
            "config.json#/layer_types: has layers with sliding_attention, but there is no "
            "sliding_window");
}

TEST(ReadConfig, KeysOfOtherFamiliesAreIgnored) {
  EXPECT_EQ(read_ok(with("sliding_window", "5")), toy_model());
  EXPECT_FALSE(read_ok(R"({"model_type": "mistral", "attention_bias": true})").attention_bias);
}

TEST(ReadConfig, ArchitecturesAreThoseOfTheFamily) {
  EXPECT_EQ(error_text(read_config(
                R"({"model_type": "mistral", "architectures": ["LlamaForCausalLM"]})", "c.json")),
            "c.json#/architectures: \"LlamaForCausalLM\" is not built yet: ftplan trains language "
            "models (MistralForCausalLM)");
}

// quantization_config with one key replaced or added.
std::string quantized(const std::string& method, const std::string& key = "",
                      const std::string& value = "null") {
  Json json = Json::parse(R"({"quant_method": "bitsandbytes", "bnb_4bit_quant_type": "nf4"})");
  json[method] = true;
  if (!key.empty()) json[key] = Json::parse(value);
  return json.dump();
}

TEST(ReadConfig, ReadsTheCodesOfBitsandbytes) {
  const auto stored = [](const std::string& value) {
    return read_ok(with("quantization_config", value)).stored_linears;
  };
  EXPECT_EQ(read_ok(toy_config_json()).stored_linears, StoredLinears::kPlain);
  EXPECT_EQ(stored("null"), StoredLinears::kPlain);
  EXPECT_EQ(stored(quantized("load_in_4bit")), StoredLinears::kNf4);
  EXPECT_EQ(stored(quantized("load_in_4bit", "bnb_4bit_use_double_quant", "true")),
            StoredLinears::kNf4Double);
  EXPECT_EQ(stored(quantized("load_in_8bit", "llm_int8_threshold", "6.0")), StoredLinears::kInt8);
  // Old folders do not name the method; modules that are not of the layers may be skipped.
  EXPECT_EQ(stored(R"({"load_in_8bit": true})"), StoredLinears::kInt8);
  EXPECT_EQ(stored(quantized("load_in_4bit", "llm_int8_skip_modules",
                             R"(["lm_head", "multi_modal_projector", "model.layers.9"])")),
            StoredLinears::kNf4);
}

TEST(ReadConfig, RefusesOtherCodes) {
  const std::string give = "give the 16-bit model that was quantized; --method qlora quantizes it";
  const auto error = [](const std::string& value) {
    return error_with("quantization_config", value);
  };
  const auto of_4_bits = [&](const char* key, const char* value) {
    return error(quantized("load_in_4bit", key, value));
  };
  const auto of_8_bits = [&](const char* key, const char* value) {
    return error(quantized("load_in_8bit", key, value));
  };
  const std::string place = "config.json#/quantization_config";
  EXPECT_EQ(error(R"({"quant_method": "gptq"})"),
            place + ": weights quantized by \"gptq\" are not read: " + give);
  EXPECT_EQ(error("7"), place + ": weights quantized by somebody else are not read: " + give);
  EXPECT_EQ(error(R"({"quant_method": "bitsandbytes"})"),
            place + ": expected one of load_in_4bit and load_in_8bit to be true");
  const std::string fp4 = place + "/bnb_4bit_quant_type: got \"fp4\", expected \"nf4\": " + give;
  EXPECT_EQ(of_4_bits("bnb_4bit_quant_type", "\"fp4\""), fp4);
  EXPECT_EQ(error(R"({"load_in_4bit": true})"), fp4);
  EXPECT_EQ(of_4_bits("bnb_4bit_quant_storage", "\"bfloat16\""),
            place + "/bnb_4bit_quant_storage: got \"bfloat16\", expected \"uint8\": " + give);
  EXPECT_EQ(of_8_bits("llm_int8_has_fp16_weight", "true"),
            place + "/llm_int8_has_fp16_weight: got true, expected false: " + give);
  EXPECT_EQ(of_8_bits("llm_int8_threshold", "4"),
            place +
                "/llm_int8_threshold: got 4.0, expected 6.0: other thresholds are not built "
                "yet");
  EXPECT_EQ(of_4_bits("load_in_8bit", "1"), place + "/load_in_8bit: got 1, expected true or false");
}

TEST(ReadConfig, RefusesLinearsThatAreNotQuantizedAndHeadsThatAre) {
  const std::string give = "give the 16-bit model that was quantized; --method qlora quantizes it";
  const std::string place = "config.json#/quantization_config/llm_int8_skip_modules";
  for (const std::string pattern : {"down_proj", "model.layers.1", "model.", "layers.*"}) {
    EXPECT_EQ(error_with("quantization_config", quantized("load_in_4bit", "llm_int8_skip_modules",
                                                          Json{"lm_head", pattern}.dump())),
              place + "/1: got \"" + pattern +
                  "\": linears of the layers that are not quantized are not built yet; " + give);
  }
  EXPECT_EQ(
      error_with("quantization_config", quantized("load_in_4bit", "llm_int8_skip_modules", "[]")),
      place + ": lacks \"lm_head\", so the head is quantized too, which is not built yet; " + give);
}

struct Refused {
  const char* key;
  const char* value;
  const char* message;
};

class ReadConfigRefuses : public testing::TestWithParam<Refused> {};

TEST_P(ReadConfigRefuses, NamesThePlaceAndTheReason) {
  EXPECT_EQ(error_with(GetParam().key, GetParam().value), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Values, ReadConfigRefuses,
    testing::Values(
        Refused{"num_attention_heads", "0",
                "config.json#/num_attention_heads: got 0, expected 1..4096 heads"},
        Refused{"num_attention_heads", "3",
                "config.json#/num_attention_heads: got 3, expected a divisor of hidden_size, which "
                "is 8"},
        Refused{"num_key_value_heads", "3",
                "config.json#/num_key_value_heads: got 3, expected a divisor of "
                "num_attention_heads, which is 2"},
        Refused{"num_key_value_heads", "\"1\"",
                "config.json#/num_key_value_heads: got \"1\", expected 1..4096 heads"},
        Refused{"head_dim", "5",
                "config.json#/head_dim: got 5, expected an even number: rotary embedding turns "
                "pairs of values"},
        Refused{"hidden_size", "2",
                "config.json#/head_dim: got 1 (hidden_size / num_attention_heads), expected an "
                "even number: "
                "rotary embedding turns pairs of values"},
        Refused{"vocab_size", "null",
                "config.json#/vocab_size: got null, expected 1..16777216 tokens"},
        Refused{"vocab_size", "1.5",
                "config.json#/vocab_size: got 1.5, expected 1..16777216 tokens"},
        Refused{"rms_norm_eps", "-1", "config.json#/rms_norm_eps: got -1, expected 0..1"},
        Refused{"tie_word_embeddings", "1",
                "config.json#/tie_word_embeddings: got 1, expected true or false"},
        Refused{"eos_token_id", "[]",
                "config.json#/eos_token_id: got an empty list, expected a token id"},
        Refused{"eos_token_id", "[2, \"x\"]",
                "config.json#/eos_token_id/1: got \"x\", expected 0..16777216"},
        Refused{"architectures", "[\"LlamaForSequenceClassification\"]",
                "config.json#/architectures: \"LlamaForSequenceClassification\" is not built yet: "
                "ftplan "
                "trains language models (LlamaForCausalLM)"},
        Refused{"model_type", "\"bert\"",
                "config.json#/model_type: \"bert\" is not built yet: ftplan knows llama, mistral, "
                "qwen2, qwen3, phi3, gemma2, falcon, mixtral"},
        Refused{"hidden_act", "\"gelu\"",
                "config.json#/hidden_act: got \"gelu\", expected \"silu\": other activations are "
                "not built yet"},
        Refused{"pretraining_tp", "2",
                "config.json#/pretraining_tp: got 2, expected 1: linears cut for tensor parallel "
                "pre-training "
                "are not built; the weights are the same, so 1 gives the same model"},
        Refused{"attention_dropout", "0.1",
                "config.json#/attention_dropout: got 0.1, expected 0.0: dropout inside the "
                "attention is not "
                "built yet"},
        Refused{
            "per_layer_config", "{\"0\": {\"intermediate_size\": 4}}",
            "config.json#/per_layer_config: layers that differ are not built yet: expected none"}));

INSTANTIATE_TEST_SUITE_P(
    Rope, ReadConfigRefuses,
    testing::Values(
        Refused{"rope_theta", "null", "config.json#/rope_theta: got null, expected 1..1e+12"},
        Refused{"rope_scaling", "2",
                "config.json#/rope_scaling: got 2, expected an object or null"},
        Refused{"rope_scaling", R"({"type": "proportional", "factor": 2})",
                "config.json#/rope_scaling/type: rotary scaling \"proportional\" is not built yet: "
                "expected one of default, linear, dynamic, llama3, yarn, longrope; without scaling "
                "the model works up to its positions of pre-training"},
        Refused{"rope_scaling", R"({"type": "dynamic"})",
                "config.json#/rope_scaling/factor: missing"},
        Refused{"rope_scaling", R"({"type": "yarn"})", "config.json#/rope_scaling/factor: missing"},
        Refused{"rope_scaling", R"({"type": "longrope", "factor": 2})",
                "config.json#/rope_scaling/short_factor: missing"},
        Refused{"rope_scaling", R"({"type": "longrope", "short_factor": [0]})",
                "config.json#/rope_scaling/short_factor/0: got 0, expected 1e-06..1e+09"},
        Refused{"rope_scaling", R"({"type": "linear"})",
                "config.json#/rope_scaling/factor: missing"},
        Refused{"rope_scaling", R"({"type": "linear", "factor": 0.5})",
                "config.json#/rope_scaling/factor: got 0.5, expected 1..1e+06"},
        Refused{
            "rope_scaling",
            R"({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4})",
            "config.json#/rope_scaling/high_freq_factor: got 4, expected more than "
            "low_freq_factor, which "
            "is 4"},
        Refused{"rope_parameters", R"({"full_attention": {"rope_type": "default"}})",
                "config.json#/rope_parameters/full_attention: rotary parameters per kind of layer "
                "are not built "
                "yet: expected one set of them"},
        Refused{"partial_rotary_factor", "0.5",
                "config.json#/partial_rotary_factor: rotating a part of each head is not built "
                "yet: expected 1"}));

TEST(ReadConfig, RefusesTextThatIsNoConfig) {
  EXPECT_EQ(error_text(read_config("[]", "config.json")),
            "config.json: got a list, expected an object");
  EXPECT_EQ(error_text(read_config("{", "config.json")),
            "config.json: not valid JSON at line 1, column 1");
  EXPECT_EQ(error_text(read_config(R"({"rope_theta": 1e999})", "config.json")),
            "config.json: holds a number that is too large for a double");
  EXPECT_EQ(error_text(read_config("{}", "config.json")),
            "config.json#/model_type: missing: expected a Hugging Face config.json with model_type "
            "llama, mistral, qwen2, qwen3, phi3, gemma2, falcon, mixtral");
  EXPECT_EQ(
      error_text(read_config(R"({"model_type": "llama", "model_type": "llama"})", "config.json")),
      "config.json: the key \"model_type\" stands twice in one object");
}

}  // namespace
}  // namespace ftplan::models

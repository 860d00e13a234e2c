#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "core/category.h"
#include "core/json.h"
#include "core/plan.h"
#include "models/presets.h"
#include "tests/tools/run_ftplan.h"

namespace ftplan::tools {
namespace {

// Two layers of width 16: every command answers at once.
constexpr const char* kConfig =
    R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 96,
  "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16"})";

class Cli : public testing::Test {
 protected:
  void SetUp() override { folder_.write("model/config.json", kConfig); }
  Finished run(const std::string& arguments) const { return ftplan(folder_, arguments); }
  [[nodiscard]] Json json_of(const std::string& arguments) const {
    const Finished done = run(arguments);
    EXPECT_EQ(done.code, 0) << done.err;
    Json json = Json::parse(done.out, nullptr, /*allow_exceptions=*/false);
    EXPECT_FALSE(json.is_discarded()) << done.out;
    return json;
  }
  TemporaryFolder folder_;
};

TEST_F(Cli, EstimateFillsTheFormOfItsJson) {
  const Json json = json_of("estimate --model llama2-70b --gpus 1xT4 --json");
  EXPECT_EQ(json["format_version"], 1);
  EXPECT_EQ(json["model"]["parameters"], 68'976'648'192);
  EXPECT_EQ(json["devices"]["count"], 1);
  ASSERT_EQ(json["rows"].size(), 4U);  // one for each method
  // Trained norms are f32; 4-bit linears take 0.515869 bytes a value and a line for their 7 means.
  const std::int64_t norms = (2 * 80 + 1) * 8192;
  const std::int64_t linears =
      80 * (std::int64_t{2} * 8192 * 8192 + 2 * 1024 * 8192 + std::int64_t{3} * 28672 * 8192);
  std::map<std::string, std::int64_t> weights = {{"full", 68'976'648'192 * 2 + norms * 2},
                                                 {"lora", 68'976'648'192 * 2}};
  weights["qlora"] = weights["lora"] - linears * 2 + linears / 16384 * 8452 + 80 * 64;
  // 8-bit ones a byte a value and 4 for each output.
  const std::int64_t outputs = 80 * (2 * 8192 + 2 * 1024 + 2 * 28672 + 8192);
  weights["int8-lora"] = weights["lora"] - linears * 2 + linears + 4 * outputs;
  for (const Json& row : json["rows"]) {
    EXPECT_EQ(row["fits"], "no");
    EXPECT_EQ(row["basis"], "formula");
    EXPECT_LT(row["headroom_bytes"].get<std::int64_t>(), 0);
    EXPECT_EQ(row["device"]["weights"], weights[row["method"]]) << row["method"];
    std::int64_t sum = 0;
    for (const auto& line : row["device"].items()) {
      if (line.key() != "peak") sum += line.value().get<std::int64_t>();
    }
    EXPECT_EQ(sum, row["device"]["peak"]);
  }
}

TEST_F(Cli, EstimateCountsWhatAMethodTrains) {
  const Json json = json_of(
      "estimate --model llama2-70b --gpus 1xA100-80GB --method lora --rank 4 --targets "
      "q_proj,k_proj,v_proj,o_proj "
      "--json");
  ASSERT_EQ(json["rows"].size(), 1U);
  EXPECT_EQ(json["rows"][0]["trainable_parameters"], 16'384'000);
  EXPECT_EQ(json["rows"][0]["device"]["adapters"], 4 * 16'384'000);
}

TEST_F(Cli, EstimateTellsWhatFitsInFewerBitsAlone) {
  const Json json = json_of("estimate --model llama2-70b --gpus 1xA100-80GB --json");
  std::map<std::string, std::string> fits;  // by method, the best of its layouts
  for (const Json& row : json["rows"]) {
    if (row["fits"] == "yes" || !fits.contains(row["method"])) fits[row["method"]] = row["fits"];
  }
  EXPECT_EQ(fits, (std::map<std::string, std::string>{
                      {"full", "no"}, {"int8-lora", "yes"}, {"lora", "no"}, {"qlora", "yes"}}));
  const std::string out = run("estimate --model llama2-70b --gpus 1xA100-80GB").out;
  EXPECT_NE(out.find("Yes: int8 LoRA"), std::string::npos) << out;
  EXPECT_NE(out.find("one whole dequantized weight"), std::string::npos) << out;
}

TEST_F(Cli, EstimateAnswersInASentenceAndNamesWhatIsNotBuilt) {
  const Finished done = run("estimate --model llama2-7b --gpus 1xA100-80GB");
  EXPECT_EQ(done.code, 0);
  EXPECT_NE(done.out.find("Yes: LoRA, "), std::string::npos) << done.out;
  EXPECT_NE(done.out.find("not built yet: offload"), std::string::npos) << done.out;
  EXPECT_NE(done.out.find("bf16, adamw"), std::string::npos) << done.out;
  EXPECT_NE(run("estimate --model llama2-7b --gpus T4").out.find("fp16, adamw"), std::string::npos);
  EXPECT_NE(
      run("estimate --model llama2-7b --gpus T4 --precision bf16").out.find("has no bf16 units"),
      std::string::npos);
}

TEST_F(Cli, EstimateHasARowForEachMethodAndStageAndMoreWithAll) {
  const std::string command = "estimate --model llama2-7b --gpus 8xT4";
  const Json json = json_of(command + " --json");
  std::map<std::string, std::set<std::string>> layouts;
  for (const Json& row : json["rows"]) {
    EXPECT_EQ(row["strategy"]["checkpointing"], "full");
    EXPECT_TRUE(layouts[row["method"]].insert(row["layout"].get<std::string>()).second);
    EXPECT_EQ(row["host_fits"], "unknown");
    EXPECT_EQ(row["disk_fits"], "unknown");
  }
  ASSERT_EQ(layouts.size(), 4U);
  for (const auto& [method, of] : layouts) EXPECT_EQ(of, layouts["full"]) << method;
  EXPECT_TRUE(layouts["full"].contains("ZeRO-0"));
  EXPECT_TRUE(layouts["full"].contains("pipeline"));
  EXPECT_EQ(json_of(command + " --all --json")["rows"].size(), 2 * json["rows"].size());
  const std::string out = run(command).out;
  EXPECT_NE(out.find("checkpointing full"), std::string::npos) << out;
  EXPECT_NE(out.find("gathered"), std::string::npos) << out;
  EXPECT_NE(out.find("> ZeRO-"), std::string::npos) << out;
  EXPECT_EQ(out.find("Room left:"), std::string::npos) << out;
  EXPECT_NE(run(command + " --method qlora").out.find("Room left:  micro-batch 8 ("),
            std::string::npos);
  EXPECT_NE(out.find("Smallest that fits:  1 x T4"), std::string::npos) << out;
  EXPECT_NE(out.find("Adapter 152.5 MiB. Base model on disk: 12.55 GiB in 16 bit."),
            std::string::npos)
      << out;  // 39,976,960 values of 4 bytes
  EXPECT_NE(out.find("try --gpus g4dn.metal"), std::string::npos) << out;
  EXPECT_NE(out.find("no flash attention 2 (compute capability 7.5)"), std::string::npos) << out;
  EXPECT_NE(run(command + " --all").out.find("interval"), std::string::npos);
}

TEST_F(Cli, OfANodeTheHostAndTheDiskAreJudged) {
  const std::string command =
      "estimate --model llama2-7b --method full --optimizer paged-adamw8bit --gpus ";
  const Json json = json_of(command + "3xg4dn.metal --json");
  EXPECT_EQ(json["devices"]["name"], "T4");
  EXPECT_EQ(json["devices"]["count"], 24);
  EXPECT_EQ(json["devices"]["host_memory_bytes"], std::int64_t{384} << 30);
  for (const Json& row : json["rows"]) {
    EXPECT_EQ(row["host_fits"], "yes");
    EXPECT_EQ(row["disk_fits"], "yes");
  }
  const std::string out = run(command + "3xg4dn.metal").out;
  EXPECT_NE(out.find("3 x g4dn.metal, each with host RAM 384.00 GiB"), std::string::npos) << out;
  const Json small = json_of(command + "8xA100-80GB --host-memory 1024 --disk 1 --json");
  EXPECT_EQ(small["rows"][0]["host_fits"], "yes");
  EXPECT_EQ(small["rows"][0]["disk_fits"], "no");
  EXPECT_EQ(small["rows"][0]["fits"], "no");
  // Eight ranks hold theirs on one host.
  const auto host = small["rows"][0]["host"]["peak"].get<std::int64_t>();
  const std::string half = std::to_string(4 * host / (std::int64_t{1} << 30));
  EXPECT_EQ(
      json_of(command + "8xA100-80GB --host-memory " + half + " --json")["rows"][0]["host_fits"],
      "no");
}

TEST_F(Cli, OfDevicesThatDifferTheSmallestDecides) {
  const std::string command = "estimate --model llama2-7b --method lora --gpus 3xT4 ";
  const Json json = json_of(command + "--memory 20,20,8 --json");
  EXPECT_EQ(json["rows"][0]["fits"], "no");
  EXPECT_EQ(json["rows"][0]["worst_rank"], 2);
  EXPECT_EQ(json_of(command + "--memory 20,20,20 --json")["rows"][0]["fits"], "yes");
  EXPECT_NE(run(command + "--memory 20,20,8").out.find("20, 20, 8 GiB usable"), std::string::npos);
}

TEST_F(Cli, HardwareShowsWhereANumberIsFrom) {
  const std::string out = run("hardware T4").out;
  EXPECT_NE(out.find("memory_bytes: 15633680957 bytes\n    14.56 GiB is the total that PyTorch"),
            std::string::npos)
      << out;
  EXPECT_NE(out.find("    doubtful: "), std::string::npos) << out;
  const std::string all = run("hardware").out;
  for (const char* name : {"RTX4090", "Gaudi2", "g4dn.metal", "HLS-Gaudi3"})
    EXPECT_NE(all.find(name), std::string::npos) << all;
}

TEST_F(Cli, PagedStatesAreShownOnTheHost) {
  const std::string command =
      "estimate --model llama2-7b --gpus 1xA100-80GB --method full --checkpointing full "
      "--optimizer ";
  const auto row = [&](const char* optimizer, const char* more = "") {
    return json_of(command + optimizer + more + " --json")["rows"][0];
  };
  const auto bytes = [](const Json& of) { return of["optimizer"].get<std::int64_t>(); };
  const Json paged = row("paged-adamw8bit");
  const Json whole = row("adamw8bit");
  EXPECT_EQ(bytes(paged["device"]) + bytes(paged["host"]),
            bytes(whole["device"]) + bytes(whole["host"]));
  EXPECT_EQ(bytes(whole["host"]), 0);
  EXPECT_GT(bytes(paged["host"]), std::int64_t{13} << 30);
  EXPECT_NE(run(command + "paged-adamw8bit").out.find("on host"), std::string::npos);
  EXPECT_EQ(run(command + "adamw8bit").out.find("on host"), std::string::npos);
  // A host that is known to be too small.
  EXPECT_EQ(row("paged-adamw8bit", " --host-memory 8")["fits"], "no");
  EXPECT_NE(run(command + "paged-adamw8bit --host-memory 8").out.find(" a host ("),
            std::string::npos);
}

TEST_F(Cli, ALayoutIsDrawnIntoAFileOfItsKind) {
  ASSERT_EQ(run("plan --model model --gpus cpu --method full -o plan.json").code, 0);
  const Finished drawn = run("report plan.json --graph layout.dot");
  if (drawn.code == 2) {
    EXPECT_NE(drawn.err.find("--graph: this ftplan was built without Graphviz"), std::string::npos);
    GTEST_SKIP() << drawn.err;
  }
  EXPECT_EQ(drawn.code, 0) << drawn.err;
  EXPECT_EQ(run("report plan.json --graph layout.svg").code, 0);
  const Finished png = run("report plan.json --graph layout.png");
  EXPECT_EQ(png.code, 2);
  EXPECT_NE(png.err.find("--graph: got layout.png, expected a name that ends in .dot or .svg"),
            std::string::npos)
      << png.err;
  EXPECT_EQ(run("report plan.json --graph nowhere/layout.svg").code, 2);
}

TEST_F(Cli, TwoRanksAreEstimatedWithAndWithoutSharding) {
  const Json json =
      json_of("estimate --model model --gpus 2xcpu --method full --checkpointing none --json");
  ASSERT_EQ(json["rows"].size(), 5U);
  EXPECT_EQ(json["rows"][4]["layout"], "pipeline");
  for (std::size_t stage = 0; stage < 4; ++stage) EXPECT_EQ(json["rows"][stage]["zero"], stage);
  EXPECT_LT(json["rows"][1]["device"]["optimizer"].get<std::int64_t>(),
            json["rows"][0]["device"]["optimizer"].get<std::int64_t>());
  EXPECT_LT(json["rows"][3]["device"]["weights"].get<std::int64_t>(),
            json["rows"][2]["device"]["weights"].get<std::int64_t>());
  EXPECT_GT(json["rows"][3]["device"]["gathered"].get<std::int64_t>(), 0);
}

// By hand: 10 of 80 layers in 0.515869 bytes a value of 855,638,016 are 4.11 GiB, and the embedding
// or the head on the first and the last 0.49 GiB.
TEST_F(Cli, APipelineOfEightT4HoldsSeventyBillion) {
  const Json json = json_of(
      "estimate --model llama2-70b --gpus 8xT4 --method qlora --optimizer paged-adamw8bit "
      "--pipeline naive --json");
  ASSERT_EQ(json["rows"].size(), 1U);
  const Json& row = json["rows"][0];
  EXPECT_EQ(row["layout"], "pipeline");
  EXPECT_EQ(row["fits"], "yes");
  const auto weights = row["device"]["weights"].get<double>() / (1 << 30);
  EXPECT_NEAR(weights, 4.6, 0.2);
  EXPECT_LT(row["device"]["peak"].get<double>() / (1 << 30), 8);
  const auto& layers = row["strategy"]["stage_layers"];
  ASSERT_EQ(layers.size(), 8U);
  EXPECT_LT(layers[0], layers[1]);
}

TEST_F(Cli, PlanWritesTheSameBytesEachTime) {
  const std::string plan = "plan --model model --steps 3 --memory 1 --seq 64 -o ";
  EXPECT_EQ(run(plan + "a.json").code, 0);
  EXPECT_EQ(run(plan + "b.json").code, 0);
  EXPECT_FALSE(folder_.read("a.json").empty());
  EXPECT_EQ(folder_.read("a.json"), folder_.read("b.json"));
  const auto read = read_plan(folder_.read("a.json"), "a.json");
  ASSERT_TRUE(read.ok()) << read.error().text();
  EXPECT_EQ(read->steps, 3);
  EXPECT_EQ(read->fits, Fits::kYes);
}

TEST_F(Cli, PathsInAPlanAreRelativeToIt) {
  folder_.write("plans/keep", "");
  ASSERT_EQ(run("plan --model model --steps 1 --seq 64 -o plans/plan.json").code, 0);
  EXPECT_EQ(read_plan(folder_.read("plans/plan.json"), "plan.json")->job.model, "../model");
}

TEST_F(Cli, AJobFileAndFlagsSayTheSame) {
  folder_.write("job.json", R"({"model": "model", "devices": {"memory": [1]}, "method": {"rank": 4},
                                "data": {"seq": 64}, "training": {"steps": 3, "micro_batch": 2}})");
  const Finished from_file = run("plan --job job.json --json");
  const Finished from_flags =
      run("plan --model model --memory 1 --rank 4 --seq 64 --steps 3 --micro-batch 2 --json");
  EXPECT_EQ(from_file.code, 0) << from_file.err;
  EXPECT_EQ(from_file.out, from_flags.out);
  EXPECT_NE(run("plan --job job.json --rank 8 --json").out, from_file.out);
}

TEST_F(Cli, WhatDoesNotFitExitsWithThree) {
  const Finished done = run("plan --model llama2-70b --gpus T4 -o plan.json");
  EXPECT_EQ(done.code, 3);
  EXPECT_NE(done.out.find("are missing"), std::string::npos) << done.out;
  EXPECT_NE(done.out.find("Largest part: weights"), std::string::npos) << done.out;
  EXPECT_FALSE(std::filesystem::exists(folder_.file("plan.json")));
  const Finished json = run("plan --model llama2-70b --gpus T4 --json");
  EXPECT_EQ(json.code, 3);
  EXPECT_EQ(Json::parse(json.out)["largest_category"], "weights");
}

TEST_F(Cli, SimulateHasAnInstantForEveryInstructionAndATrace) {
  ASSERT_EQ(run("plan --model model --steps 1 --seq 64 -o plan.json").code, 0);
  const Json timeline = json_of("simulate plan.json --json --trace trace.json");
  const auto plan = read_plan(folder_.read("plan.json"), "plan.json");
  const Json& peak = timeline["instants"][timeline["peak"].get<std::size_t>()];
  EXPECT_EQ(peak["device"], to_json(plan->predicted.front().device));
  const Json trace = Json::parse(folder_.read("trace.json"));
  EXPECT_EQ(trace["traceEvents"].size(), 2 * timeline["instants"].size());
}

TEST_F(Cli, ExplainTurnsKnobs) {
  ASSERT_EQ(run("plan --model model --steps 1 --seq 64 -o plan.json").code, 0);
  const Json json = json_of("explain plan.json --json");
  bool lower = false;
  for (const Json& change : json["changes"]) {
    lower = lower || (change["flags"] == "--checkpointing full" &&
                      change["difference_bytes"].get<std::int64_t>() < 0);
  }
  EXPECT_TRUE(lower) << json["changes"].dump();
  EXPECT_EQ(run("explain plan.json").code, 0);
}

TEST_F(Cli, CataloguesAndDoctorSpeakJson) {
  EXPECT_EQ(json_of("models --json")["models"].size(), models::presets().size());
  const Json hardware = json_of("hardware --json");
  EXPECT_GE(hardware["hardware"].size(), 35U);
  EXPECT_GE(hardware["nodes"].size(), 13U);
  EXPECT_EQ(json_of("hardware 4090 --json")["device"]["name"], "RTX4090");
  EXPECT_EQ(json_of("hardware g4dn.metal --json")["node"]["device"], "T4");
  const Json doctor = json_of("doctor --json");
  EXPECT_GE(doctor["machine"]["threads"], 1);
  EXPECT_EQ(doctor["machine_digest"].get<std::string>().size(), 32U);
}

TEST_F(Cli, EveryCommandHasHelpWithAnExample) {
  for (const char* command : {"estimate", "plan", "data", "simulate", "explain", "merge", "convert",
                              "models", "hardware", "doctor"}) {
    const Finished done = run(std::string(command) + " --help");
    EXPECT_EQ(done.code, 0) << command;
    EXPECT_NE(done.out.find("Example: ftplan " + std::string(command)), std::string::npos)
        << done.out;
  }
  const std::string help = run("--help").out;
  for (const char* worker : {"run", "eval", "generate", "calibrate"}) {
    EXPECT_NE(help.find("\n  " + std::string(worker) + " "), std::string::npos) << help;
  }
  EXPECT_EQ(run("--version").out.rfind("ftplan ", 0), 0U);
}

constexpr const char* kTokens = R"({"input_ids": [[1, 5, 6, 7], [1, 8, 9], [3, 4, 5, 6, 7]],
  "labels": [[-100, 5, 6, 7], [-100, 8, 9], [3, 4, 5, 6, 7]]})";

TEST_F(Cli, APlanForDataKnowsItsStepsAndLengths) {
  folder_.write("rows.json", kTokens);
  const Finished done =
      run("plan --model model --data rows.json --global-batch 2 --epochs 2 -o plan.json");
  ASSERT_EQ(done.code, 0) << done.err;
  const auto plan = read_plan(folder_.read("plan.json"), "plan.json");
  ASSERT_TRUE(plan.ok()) << plan.error().text();
  EXPECT_EQ(plan->steps, /*epochs=*/2 * /*ceil(3 rows / 2)=*/2);
  ASSERT_TRUE(plan->data.has_value());
  EXPECT_EQ(plan->data->rows, 3);
  EXPECT_EQ(plan->data->longest, 5);
  EXPECT_EQ(plan->digests.data, plan->data->digest);
}

TEST_F(Cli, DataIsShownAndWrittenAsTokens) {
  folder_.write("rows.json", kTokens);
  const Json json = json_of("data --model model --data rows.json --json --out again.json");
  EXPECT_EQ(json["facts"]["rows"], 3);
  EXPECT_EQ(json["facts"]["tokens"], 4 + 3 + 5);
  const Json again = json_of("data --model model --data again.json --json");
  EXPECT_EQ(again["facts"]["digest"], json["facts"]["digest"]);
}

struct Wrong {
  const char* arguments;
  const char* message;
};

class BadInput : public Cli, public testing::WithParamInterface<Wrong> {};
INSTANTIATE_TEST_SUITE_P(
    Lines, BadInput,
    testing::Values(
        Wrong{"estimat", "ftplan: estimat: unknown command; did you mean estimate?"},
        Wrong{"estimate --modle x", "ftplan: --modle: unknown flag; did you mean --model?"},
        Wrong{"estimate", "ftplan: --model: missing: name a preset"},
        Wrong{"estimate --model llama2-8b", "did you mean \"llama2-7b\"?"},
        Wrong{"estimate --model model --gpus A100", "did you mean A100-40GB?"},
        Wrong{"estimate --model model --gpus 2x2xg4dn.metal", "expected 2xg4dn.metal"},
        Wrong{"estimate --model model --gpus 3xT4 --memory 14,14",
              "--memory: got 2 numbers for 3 devices, expected one, or one for each"},
        Wrong{"hardware T44",
              "ftplan: hardware: got \"T44\", which is not in the catalogue; did "
              "you mean T4?"},
        Wrong{"estimate --model model --gpus 0xT4", "ftplan: --gpus: got \"0xT4\""},
        Wrong{"plan --model model --micro-batch 0",
              "ftplan: --micro-batch: got 0, expected 1..65536 sequences"},
        Wrong{"plan --model model --micro-batch two",
              "ftplan: --micro-batch: got \"two\", expected"},
        Wrong{"plan --model model --checkpointing some", "expected none | full | every-k"},
        Wrong{"plan --model model --method int8-lora --runtime hf",
              "int8-lora for --runtime hf is not built yet"},
        Wrong{"plan --model model --method qlora --runtime hf",
              "qlora for --runtime hf is not built yet"},
        Wrong{"plan --model model --optimizer sgd --runtime hf",
              "--optimizer: sgd for --runtime hf is not built yet: use adamw"},
        Wrong{"plan --model model --momentum 0.9",
              "--momentum: got 0.9 with adamw: only sgd has momentum, use --optimizer sgd"},
        Wrong{"plan --model model --seq 4096", "has 128 positions"},
        Wrong{"plan --model model --adapter nowhere", "nowhere/adapter_config.json"},
        Wrong{"plan --job missing.json", "ftplan: missing.json: cannot be read"},
        Wrong{"plan --model model --steps 1 -o no/such/plan.json",
              "ftplan: --output: got no/such/plan.json"},
        Wrong{"simulate missing.json", "ftplan: missing.json: cannot be read"},
        Wrong{"simulate model/config.json", "ftplan: model/config.json#/format_version: missing"},
        Wrong{"plan --model model --data missing.json", "missing.json"},
        Wrong{"data --model model", "ftplan: --data: missing: name the files to read"},
        Wrong{"data --model model --data model/config.json --format text --samples x",
              "--samples: got x"},
        Wrong{"data --model model --data model/config.json --format text", "needs a tokenizer"},
        Wrong{"merge --model llama2-7b --adapter a -o b", "which has no weights"}));

TEST_P(BadInput, IsOneLineAndExitsWithTwo) {
  const Finished done = run(GetParam().arguments);
  EXPECT_EQ(done.code, 2) << done.err;
  EXPECT_NE(done.err.find(GetParam().message), std::string::npos) << done.err;
  EXPECT_EQ(done.err.find('\n'), done.err.size() - 1) << done.err;
  EXPECT_EQ(done.out, "");
}

TEST_F(Cli, AnUnknownKeyOfAJobNamesItsPlace) {
  folder_.write("job.json", R"({"model": "model", "training": {"micro_bach": 2}})");
  const Finished done = run("plan --job job.json");
  EXPECT_EQ(done.code, 2);
  EXPECT_NE(done.err.find("job.json#/training/micro_bach"), std::string::npos) << done.err;
  EXPECT_NE(done.err.find("micro_batch"), std::string::npos) << done.err;
}

// The worker stands beside the program: a script shows what it is given.
class Worker : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    std::filesystem::copy_file(FTPLAN_BINARY, folder_.file("ftplan"));
  }
  void make_worker(const std::string& script) const {
    folder_.write("ftplan-worker", "#!/bin/sh\n" + script);
    std::filesystem::permissions(folder_.file("ftplan-worker"), std::filesystem::perms::owner_all);
  }
  [[nodiscard]] Finished run_here(const std::string& arguments) const {
    return ftplan(folder_, arguments, folder_.file("ftplan"));
  }
};

TEST_F(Worker, WhenItIsMissingTheMessageSaysHowToBuildIt) {
  for (const char* command : {"run plan.json", "eval", "generate", "calibrate"}) {
    const Finished done = run_here(command);
    EXPECT_EQ(done.code, 2);
    EXPECT_NE(done.err.find("ftplan-worker is missing (it needs LibTorch): run tools/setup worker"),
              std::string::npos)
        << done.err;
  }
}

TEST_F(Worker, GetsTheArgumentsAndItsExitCodeIsOurs) {
  make_worker("echo \"$# $1 $2 $4\"; exit 4\n");
  const Finished done = run_here("run plan.json --output 'a b'");
  EXPECT_EQ(done.code, 4);
  EXPECT_EQ(done.out, "4 run plan.json a b\n");
}

TEST_F(Worker, IsToldOfASignalAndMayStillFinish) {
  // The worker signals the program that started it; only a forwarded signal ends its wait.
  make_worker(
      "trap 'echo saved; exit 130' INT\nkill -INT $PPID\ni=0\nwhile [ $i -lt 200 ]; do sleep 0.05; "
      "i=$((i+1)); "
      "done\nexit 1\n");
  const Finished done = run_here("run plan.json");
  EXPECT_EQ(done.code, 130) << done.err;
  EXPECT_EQ(done.out, "saved\n");
}

TEST_F(Worker, OneThatIsKilledIsARunThatFailed) {
  make_worker("kill -KILL $$\n");
  const Finished done = run_here("run plan.json");
  EXPECT_EQ(done.code, 4);
  EXPECT_NE(done.err.find("was ended by signal 9"), std::string::npos) << done.err;
}

}  // namespace
}  // namespace ftplan::tools

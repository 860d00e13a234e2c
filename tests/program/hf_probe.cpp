#include <algorithm>
#include <cstdint>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "core/enums.h"
#include "core/json.h"
#include "core/text.h"
#include "program/lifetimes.h"
#include "program/lower.h"
#include "program/occupancy.h"
#include "program/passes/passes.h"
#include "program/runtime.h"
#include "program/verify.h"
#include "program/walk.h"

// Prints what profile `hf` says a forward keeps for its backward, and what is live at most in a
// step, scratch left out: one line of bytes for each line of JSON on stdin.

namespace ftplan::program {
namespace {

std::int64_t number(const Json& json, const char* key) { return json.at(key).get<std::int64_t>(); }

Result<Job> read_job(const Json& json) {
  ModelConfig model{.name = "probe"};
  model.family = from_text<Family>(json.at("family").get<std::string>()).value();
  model.window = number(json, "window");
  model.hidden = number(json, "hidden");
  model.intermediate = number(json, "intermediate");
  model.heads = number(json, "heads");
  model.kv_heads = number(json, "kv_heads");
  model.head_size = number(json, "head_size");
  model.vocabulary = number(json, "vocabulary");
  model.layers = number(json, "layers");
  model.tied_embeddings = json.at("tied").get<bool>();
  model.attention_bias = json.at("bias").get<bool>();
  static const std::map<std::string, Precision> precisions = {
      {"fp32", Precision::kFp32}, {"bf16", Precision::kBf16}, {"fp16", Precision::kFp16}};
  JobRequest request;
  request.runtime = "hf";
  request.method.method = json.at("method") == "full" ? Method::kFull : Method::kLora;
  request.method.precision = precisions.at(json.at("precision").get<std::string>());
  request.method.rank = number(json, "rank");
  request.method.dropout = json.at("dropout").get<double>();
  if (request.method.method == Method::kLora)
    request.method.targets = split(json.at("targets").get<std::string>(), ',');
  request.data.seq = number(json, "sequence");
  request.training.micro_batch = number(json, "rows");
  request.training.accumulation = 1;
  return validate(request, model, std::nullopt);
}

struct Answer {
  std::int64_t saved = 0;
  std::int64_t peak = 0;
};

Result<Answer> answer(const std::string& line) {
  const auto json = parse_json(line, "stdin");
  if (!json) return json.error();
  const auto job = read_job(*json);
  if (!job) return job.error();
  RuntimeProfile runtime = runtime_profile("hf");
  if (json->at("attention") == "eager") runtime.attention = HfAttention::kEager;
  const Strategy strategy{.micro_batch = number(*json, "rows"),
                          .checkpointing = {.every = number(*json, "checkpointing")}};
  const Machine machine;
  Lowering lowering = begin_lowering(*job, strategy, machine, {}, &runtime);
  for (const Pass& pass : passes()) {
    if (auto ok = pass.run(lowering); !ok) return ok.error();
  }
  const std::string problem = verify_program(lowering.program);
  if (!problem.empty()) return bad_input("program", problem);
  std::int64_t peak = 0;
  const Walk steps = walk(lowering.program, Sampling::kAll);
  for (const CategoryCounts& counts :
       occupancy(lowering.program, steps, lives_of(lowering.program, steps), Place::kDevice)) {
    peak = std::max(peak, sum_of(counts));
  }
  return Answer{lowering.program.saved_bytes.value, peak};
}

}  // namespace
}  // namespace ftplan::program

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto bytes = ftplan::program::answer(line);
    if (!bytes) {
      std::cerr << bytes.error().text() << "\n";
      return 2;
    }
    std::cout << bytes->saved << " " << bytes->peak << "\n";
  }
  return 0;
}

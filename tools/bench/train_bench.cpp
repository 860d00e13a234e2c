// Training steps on demand, for comparison with another trainer in a process of its own.
//
// train_bench CASE.json: {"request": job, "strategy", "model": folder, "adapter": folder or "",
// "data": tokens file, "threads"}. Prints one line of facts, then for each line "run N" of its
// input the seconds of N steps, and for "ops" the seconds of one step by operation.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/check.h"
#include "core/fields.h"
#include "core/job.h"
#include "core/json.h"
#include "core/machine.h"
#include "core/result.h"
#include "core/strategy.h"
#include "core/units.h"
#include "data/data_set.h"
#include "executor/calibrate.h"
#include "executor/call.h"
#include "executor/feeding.h"
#include "executor/kernels.h"
#include "executor/loader.h"
#include "executor/rank_run.h"
#include "executor/session.h"
#include "executor/torch_runtime.h"
#include "models/load.h"
#include "program/lowering.h"
#include "program/op_table.h"
#include "program/step_program.h"
#include "program/walk.h"

namespace ftplan {
namespace {

struct Case {
  JobRequest request;
  Strategy strategy;
  std::string model, adapter, data;
  std::int64_t threads = 2;
};

}  // namespace

template <>
inline constexpr auto fields<Case> = std::tuple{
    Field{"request", &Case::request, ""}, Field{"strategy", &Case::strategy, ""},
    Field{"model", &Case::model, ""},     Field{"adapter", &Case::adapter, ""},
    Field{"data", &Case::data, ""},       Field{"threads", &Case::threads, "", Range{1, 64}, ""}};

namespace {

using executor::RankRun;

template <class T>
T need(Result<T> result) {
  if (result) return std::move(*result);
  std::cerr << result.error().text() << "\n";
  std::exit(exit_code(result.error().code));
}
void need(const Result<void>& result) {
  if (result) return;
  std::cerr << result.error().text() << "\n";
  std::exit(exit_code(result.error().code));
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

class Bench {
 public:
  explicit Bench(const Case& c) {
    const auto model = need(models::load_model_config(c.model, {}));
    JobRequest request = c.request;
    request.data.data = std::vector<std::string>{c.data};
    data_ = need(data::load_data(request.data, {.positions = model.config.positions,
                                                .vocabulary = model.config.vocabulary}));
    const Job job = need(validate(request, model.config, data_.facts));
    Machine machine{.threads = c.threads,
                    .instruction_set = executor::best_instruction_set(),
                    .torch = executor::torch_version(),
                    .native_bf16 = false};
    machine.scratch = need(executor::measure_scratch(*need(RankRun::create(
        {.job = job, .strategy = c.strategy, .machine = machine, .facts = data_.facts}))));
    run_ = need(RankRun::create(
        {.job = job, .strategy = c.strategy, .machine = machine, .facts = data_.facts}));
    need(run_->load(need(executor::Loader::open(job, c.model, c.adapter))));
    feeder_ = std::make_unique<executor::Feeder>(run_->setup().job, c.strategy, 0, data_);
    length_ = feeder_->rows_of_step(0).length;
  }

  Json steps(std::int64_t count) {
    const auto begin = std::chrono::steady_clock::now();
    std::int64_t tokens = 0;
    for (std::int64_t i = 0; i < count; ++i, ++step_) {
      const auto rows = feeder_->rows_of_step(step_);
      need(run_->train(rows.length, input(rows), feeder_->fill(rows)));
      tokens += rows.tokens;
    }
    return {{"seconds", seconds_since(begin)}, {"tokens", tokens}};
  }

  Json seconds_by_op() {
    executor::Session& session = run_->session(key());
    const auto rows = feeder_->rows_of_step(step_);
    const auto fill = feeder_->fill(rows);
    executor::Scalars scalars = run_->scalars_of(input(rows));
    std::map<std::string, double> seconds;
    run_->set_fill(&fill);
    executor::set_threads(session_threads());
    for (std::size_t i = 0; i < session.walk().steps.size(); ++i) {
      const auto index = static_cast<std::int32_t>(i);
      const auto begin = std::chrono::steady_clock::now();
      need(session.execute(index, scalars));
      seconds[program::name_of(session.instruction(index).op)] += seconds_since(begin);
    }
    run_->set_fill(nullptr);
    ++step_;
    return seconds;
  }

  Json facts() {
    const program::StepProgram& program = run_->program(key());
    Bytes states;
    for (const program::Storage& storage : program.storages) {
      const bool kept =
          storage.category == Category::kWeights || storage.category == Category::kAdapters ||
          storage.category == Category::kGradients || storage.category == Category::kOptimizer;
      if (kept) states += storage.copies.count * storage.size;
    }
    double flops = 0;
    for (const program::Step& step : run_->session(key()).walk().steps) {
      flops += program::cost_of({program, program.instruction(step.instruction)}).flops.value;
    }
    Json out = Json::object();
    out["arena_bytes"] = run_->measured().device.peak.value;
    out["state_bytes"] = states.value;
    out["flops_per_step"] = flops;
    return out;
  }

 private:
  [[nodiscard]] RankRun::Key key() const { return {program::ProgramKind::kTrain, length_}; }
  [[nodiscard]] int session_threads() const {
    return static_cast<int>(run_->setup().machine.threads);
  }
  [[nodiscard]] executor::StepInput input(const executor::StepRows& rows) const {
    return {step_, 1e-5, rows.target_tokens};
  }

  data::DataSet data_;
  std::unique_ptr<RankRun> run_;
  std::unique_ptr<executor::Feeder> feeder_;
  std::int64_t length_ = 0;
  std::int64_t step_ = 1;
};

int main_of(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  executor::install_allocator();
  Bench bench(
      need(from_json<Case>(need(parse_json(text.str(), path)), path, Missing::kKeepDefault)));
  bench.steps(2);
  std::cout << bench.facts().dump() << "\n" << std::flush;
  std::string word;
  while (std::cin >> word) {
    if (word == "ops") {
      std::cout << bench.seconds_by_op().dump() << "\n" << std::flush;
      continue;
    }
    std::int64_t count = 0;
    FTPLAN_CHECK(word == "run" && std::cin >> count);
    std::cout << bench.steps(count) << "\n" << std::flush;
  }
  return 0;
}

}  // namespace
}  // namespace ftplan

int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape)
  FTPLAN_CHECK(argc == 2);
  return ftplan::main_of(argv[1]);
}

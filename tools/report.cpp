#include "reports/report.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/layout_graph.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/run_result.h"
#include "estimator/layout_graph.h"
#include "estimator/predict.h"
#include "models/files.h"
#include "program/lower.h"
#include "program/lowering.h"
#include "reports/layout_graph.h"
#include "tools/commands.h"
#include "tools/options.h"
#include "tools/resolve.h"
#include "tools/what_ifs.h"

namespace ftplan::tools {
namespace {

namespace fs = std::filesystem;

Result<std::vector<StepMetrics>> read_metrics(const std::string& path) {
  std::vector<StepMetrics> metrics;
  std::ifstream file(path);
  std::int64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    const std::string where = path + ":" + std::to_string(++number);
    const auto json = parse_json(line, where);
    if (!json) return json.error();
    auto read = from_json<StepMetrics>(*json, where);
    if (!read) return read.error();
    metrics.push_back(*std::move(read));
  }
  return metrics;
}

class Report : public Command {
 public:
  void declare(Options& options) override {
    options.argument({"run", "RUN_OR_PLAN", "A run folder, or a plan file."}, source_);
    options.value({"--html", "FILE", "Writes one page that needs nothing else."}, html_);
    options.value({"--graph", "FILE.dot|FILE.svg", "Draws what holds the memory, and what flows."},
                  graph_);
  }

  Result<int> run() override {
    auto input = read();
    if (!input) return input.error();
    if (html_) {
      if (auto ok = models::write_text_file(*html_, reports::render_html(*input)); !ok) {
        return write_error("--html", *html_, ok.error());
      }
    }
    if (graph_) {
      if (auto ok = draw(*input->layout); !ok) return ok.error();
    }
    print(reports::render_terminal(*input));
    return 0;
  }

 private:
  [[nodiscard]] Result<reports::ReportInput> read() const {
    std::error_code error;
    const bool is_run = fs::is_directory(source_, error);
    const std::string plan_file = is_run ? models::join_path(source_, "plan.json") : source_;
    auto plan = load_plan(plan_file);
    if (!plan) return plan.error();
    reports::ReportInput input{.plan = *std::move(plan)};
    if (auto ok = add_timelines(input); !ok) return ok.error();
    auto changes = what_ifs_here(input.plan);
    if (!changes) return changes.error();
    input.what_ifs = *std::move(changes);
    if (!is_run) return input;
    const std::string measured = models::join_path(source_, "measured.json");
    if (fs::exists(measured, error)) {
      const auto text = models::read_text_file(measured);
      if (!text) return text.error();
      const auto json = parse_json(*text, measured);
      if (!json) return json.error();
      auto result = from_json<RunResult>(*json, measured);
      if (!result) return result.error();
      input.result = *std::move(result);
    }
    auto metrics = read_metrics(models::join_path(source_, "metrics.jsonl"));
    if (!metrics) return metrics.error();
    input.metrics = *std::move(metrics);
    return input;
  }

  [[nodiscard]] Result<void> draw(const LayoutGraph& layout) const {
    const std::string ending = fs::path(*graph_).extension().string();
    if (ending != ".dot" && ending != ".svg") {
      return bad_input("--graph", "got " + *graph_ + ", expected a name that ends in .dot or .svg");
    }
    const auto drawing = reports::render_graph(
        layout, ending == ".dot" ? reports::GraphFormat::kDot : reports::GraphFormat::kSvg);
    if (!drawing) return drawing.error();
    if (auto ok = models::write_text_file(*graph_, *drawing); !ok)
      return write_error("--graph", *graph_, ok.error());
    return {};
  }

  static Result<void> add_timelines(reports::ReportInput& input) {
    const auto job = job_of(input.plan);
    if (!job) return job.error();
    for (const RankPrediction& rank : input.plan.predicted) {
      const auto program =
          program::lower(*job, input.plan.strategy, input.plan.machine,
                         {.kind = program::ProgramKind::kTrain, .rank = rank.rank});
      if (!program) return program.error();
      input.timelines.push_back(estimator::simulate(*program, rank.rank));
      if (input.layout) continue;
      input.layout = estimator::draw_layout(*program, rank.rank);
      input.layout->device = input.plan.machine.name;
      input.layout->ranks = static_cast<std::int64_t>(input.plan.layout.size());
      input.layout->micro_steps = input.plan.strategy.accumulation;
    }
    return {};
  }

  std::string source_;
  std::optional<std::string> html_, graph_;
};

}  // namespace

CommandRow report_command() {
  return {"report", "Predicted beside measured, the loss, and the plan in words.",
          "ftplan report plan-run --html report.html", [] { return std::make_unique<Report>(); }};
}

}  // namespace ftplan::tools

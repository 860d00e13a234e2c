#include <charconv>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/json.h"
#include "core/result.h"
#include "core/text.h"
#include "core/timeline.h"
#include "core/units.h"
#include "estimator/predict.h"
#include "models/files.h"
#include "program/lower.h"
#include "program/lowering.h"
#include "tools/commands.h"
#include "tools/options.h"
#include "tools/resolve.h"
#include "tools/table.h"

namespace ftplan::tools {
namespace {

std::string label(const Instant& instant) {
  return instant.phase + (instant.layer >= 0 ? ", layer " + std::to_string(instant.layer) : "") +
         ", " + instant.operation;
}

// Counters by category and a slice for each instruction. One instruction is one microsecond:
// seconds are not simulated.
Json chrome_trace(const Timeline& timeline) {
  Json events = Json::array();
  for (std::size_t i = 0; i < timeline.instants.size(); ++i) {
    const Instant& instant = timeline.instants[i];
    Json bytes = Json::object();
    for (const auto& name : names<Category>) bytes[name.text] = instant.device[name.value].value;
    events.push_back({{"name", "device bytes"},
                      {"ph", "C"},
                      {"ts", i},
                      {"pid", timeline.rank},
                      {"args", bytes}});
    events.push_back({{"name", instant.operation},
                      {"cat", instant.phase},
                      {"ph", "X"},
                      {"ts", i},
                      {"dur", 1},
                      {"pid", timeline.rank},
                      {"tid", 0},
                      {"args", {{"micro_step", instant.micro_step}, {"layer", instant.layer}}}});
  }
  return {{"traceEvents", std::move(events)}, {"displayTimeUnit", "ms"}};
}

// A line for each stretch of one phase in one micro-step.
std::string table_of(const Timeline& timeline) {
  Table table{.head = {"micro-step", "phase", "instructions", "live at most", "where"}, .left = 2};
  const auto& all = timeline.instants;
  for (std::size_t begin = 0; begin < all.size();) {
    std::size_t end = begin;
    std::size_t top = begin;
    while (end < all.size() && all[end].phase == all[begin].phase &&
           all[end].micro_step == all[begin].micro_step) {
      if (all[end].device.live() > all[top].device.live()) top = end;
      ++end;
    }
    table.rows.push_back({std::to_string(all[begin].micro_step), all[begin].phase,
                          std::to_string(end - begin), format_bytes(all[top].device.live()),
                          label(all[top])});
    begin = end;
  }
  const Instant& peak = all[static_cast<std::size_t>(timeline.peak)];
  return render_table(table) + "\npeak: " + format_bytes(peak.device.live()) + " live of " +
         format_bytes(peak.device.peak) + " mapped, at instruction " +
         std::to_string(timeline.peak) + " of " + std::to_string(all.size()) + ": " + label(peak) +
         "\n";
}

class Simulate : public Command {
 public:
  void declare(Options& options) override {
    options.argument({"plan", "PLAN", "A plan file."}, plan_file_);
    options.value({"--rank", "INT", "Whose memory. [0]"}, rank_);
    options.value({"--trace", "FILE", "Writes a trace for chrome://tracing or Perfetto."}, trace_);
    options.toggle({"--json", "", "Prints every instruction as JSON."}, json_);
  }

  Result<int> run() override {
    const auto plan = load_plan(plan_file_);
    if (!plan) return plan.error();
    const auto rank = chosen_rank(plan->layout.size());
    if (!rank) return rank.error();
    const auto job = job_of(*plan);
    if (!job) return job.error();
    const auto program = program::lower(*job, plan->strategy, plan->machine,
                                        {.kind = program::ProgramKind::kTrain, .rank = *rank});
    if (!program) return program.error();
    const Timeline timeline = estimator::simulate(*program, *rank);
    if (trace_) {
      const auto written = models::write_text_file(*trace_, chrome_trace(timeline).dump() + "\n");
      if (!written) return write_error("--trace", *trace_, written.error());
    }
    print(json_ ? render_json(to_json(timeline)) : table_of(timeline));
    return 0;
  }

 private:
  [[nodiscard]] Result<std::int64_t> chosen_rank(std::size_t ranks) const {
    if (!rank_) return std::int64_t{0};
    std::int64_t rank = -1;
    const auto [end, error] = std::from_chars(rank_->data(), rank_->data() + rank_->size(), rank);
    const bool number = error == std::errc() && end == rank_->data() + rank_->size();
    if (!number || rank < 0 || rank >= static_cast<std::int64_t>(ranks)) {
      return bad_input("--rank", "got " + *rank_ + ", expected 0.." + std::to_string(ranks - 1));
    }
    return rank;
  }

  std::string plan_file_;
  std::optional<std::string> rank_;
  std::optional<std::string> trace_;
  bool json_ = false;
};

}  // namespace

CommandRow simulate_command() {
  return {"simulate", "The memory of a plan, instruction by instruction.",
          "ftplan simulate plan.json --trace trace.json",
          [] { return std::make_unique<Simulate>(); }};
}

}  // namespace ftplan::tools

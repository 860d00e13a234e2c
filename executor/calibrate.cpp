#include "executor/calibrate.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/machine.h"
#include "core/result.h"
#include "core/units.h"
#include "executor/call.h"
#include "executor/rank_run.h"
#include "executor/session.h"
#include "program/op_table.h"
#include "program/step_program.h"

namespace ftplan::executor {
namespace {

// Keeps the most scratch that a step used.
class ScratchWatch final : public Observer {
 public:
  void touch(std::int32_t, std::int32_t, program::StorageId, std::int32_t, const std::byte*, Bytes,
             Access) override {}
  void scratch(program::Stream, Bytes used) override { most_ = std::max(most_, used); }
  [[nodiscard]] Bytes most() const { return most_; }

 private:
  Bytes most_;
};

bool is_formula(const program::OpView& view, Machine machine) {
  machine.scratch.clear();
  return program::row_of(view.instruction.op).scratch(view, machine).exact;
}

void fill_with_nothing(std::int32_t, const std::array<View, 8>&) {}

}  // namespace

Result<std::vector<MeasuredScratch>> measure_scratch(RankRun& run) {
  std::map<std::string, Bytes> measured;
  const FillBatch nothing = fill_with_nothing;
  run.set_fill(&nothing);
  for (const RankRun::Key& key : run.keys()) {
    const program::StepProgram& program = run.program(key);
    Session& session = run.session(key);
    Scalars scalars = run.scalars_of({.step = 0, .learning_rate = 0, .target_tokens = 1});
    for (std::size_t i = 0; i < session.walk().steps.size(); ++i) {
      const auto step = static_cast<std::int32_t>(i);
      const program::OpView view{program, session.instruction(step)};
      if (is_formula(view, run.setup().machine)) continue;
      const std::string operation = program::scratch_key(view);
      if (measured.contains(operation)) continue;
      ScratchWatch watch;
      // The first run may also build what the library keeps.
      for (int repeat = 0; repeat < 2; ++repeat) {
        if (auto ok = session.execute(step, scalars, &watch); !ok) return ok.error();
      }
      measured.emplace(operation, watch.most());
    }
  }
  run.set_fill(nullptr);
  std::vector<MeasuredScratch> entries;
  for (const auto& [operation, bytes] : measured) entries.push_back({operation, bytes});
  return entries;
}

Result<void> check_scratch(RankRun& run) {
  auto measured = measure_scratch(run);
  if (!measured) return measured.error();
  return {};
}

}  // namespace ftplan::executor

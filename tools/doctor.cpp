#include <memory>
#include <string>
#include <utility>

#include "core/json.h"
#include "core/machine.h"
#include "core/result.h"
#include "core/text.h"
#include "core/units.h"
#include "tools/commands.h"
#include "tools/environment.h"
#include "tools/host.h"
#include "tools/options.h"
#include "tools/scratch_cache.h"
#include "tools/spawn_worker.h"
#include "tools/table.h"
#include "tools/version.h"

namespace ftplan::tools {
namespace {

class Doctor : public Command {
 public:
  void declare(Options& options) override { options.toggle({"--json", "", "Prints JSON."}, json_); }

  Result<int> run() override {
    Machine machine = probe_host();
    auto scratch = load_scratch(cache_folder(), machine);
    if (!scratch) return scratch.error();
    machine.scratch = *std::move(scratch);
    print(json_ ? render_json(as_json(machine)) : text_of(machine));
    return 0;
  }

 private:
  static Json as_json(const Machine& machine) {
    return {{"format_version", 1},
            {"version", kVersion},
            {"worker", find_worker()},
            {"machine", to_json(machine)},
            {"machine_digest", machine_digest(machine)}};
  }

  static std::string text_of(const Machine& machine) {
    const std::string worker = find_worker();
    Table table{.head = {"ftplan", kVersion}, .left = 2};
    table.rows = {
        {"memory", machine.host_memory ? format_bytes(*machine.host_memory) + " usable by a run"
                                       : "not known"},
        {"threads", std::to_string(machine.threads)},
        {"instructions",
         machine.instruction_set.empty() ? "neither avx2 nor avx512" : machine.instruction_set},
        {"LibTorch", machine.torch.empty() ? "not built in" : machine.torch},
        {"ftplan-worker", worker.empty() ? "missing" : worker},
        {"calibrated", std::to_string(machine.scratch.size()) + " operations"}};
    std::string text = render_table(table) + "\n";
    if (worker.empty()) {
      text +=
          "run, eval, generate and calibrate need ftplan-worker: tools/setup worker, then build "
          "the target "
          "ftplan-worker.\n";
    } else if (machine.scratch.empty()) {
      text += "bf16 predictions are bounds until ftplan calibrate has run; f32 ones are exact.\n";
    }
    return text;
  }

  bool json_ = false;
};

}  // namespace

CommandRow doctor_command() {
  return {"doctor", "What this machine can do.", "ftplan doctor",
          [] { return std::make_unique<Doctor>(); }};
}

}  // namespace ftplan::tools


#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/enums.h"
#include "core/fields.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/text.h"
#include "core/units.h"
#include "core/what_if.h"
#include "tools/commands.h"
#include "tools/options.h"
#include "tools/resolve.h"
#include "tools/table.h"
#include "tools/what_ifs.h"

namespace ftplan::tools {
namespace {

std::string lines_of(const PlaceBytes& bytes) {
  Table table{.head = {"at the peak", "bytes", "share"}};
  for_each_field<PlaceBytes>([&](const auto& field) {
    const Bytes value = bytes.*(field.member);
    if (value == Bytes{}) return;
    const double share =
        100.0 * static_cast<double>(value.value) / static_cast<double>(bytes.peak.value);
    table.rows.push_back({field.name, format_bytes(value), format_fixed(share, 1) + " %"});
  });
  return render_table(table);
}

std::string text_of(const Plan& plan, const std::vector<WhatIf>& changes) {
  const RankPrediction& p = plan.predicted.front();
  std::string text =
      "The device's peak is " + format_bytes(p.device.peak) + ", at: " + p.peak_instruction +
      ".\n" + format_bytes(p.persistent) + " of it live across steps. Live bytes alone come to " +
      format_bytes(p.lower_bound) + " at most.\n" +
      (p.uncertainty > Bytes{} ? "Uncertainty: +- " + format_bytes(p.uncertainty) + ".\n" : "") +
      "\n" + lines_of(p.device) + "\n";
  Table table{.head = {"with", "peak", "change", "fits", ""}};
  for (const WhatIf& change : changes) {
    table.rows.push_back({change.flags, format_bytes(change.peak), signed_bytes(change.difference),
                          to_text(change.fits), change.note});
  }
  return text + render_table(table);
}

Json as_json(const Plan& plan, const std::vector<WhatIf>& changes) {
  Json list = Json::array();
  for (const WhatIf& change : changes) {
    list.push_back({{"flags", change.flags},
                    {"peak_bytes", change.peak.value},
                    {"difference_bytes", change.difference.value},
                    {"fits", to_text(change.fits)},
                    {"note", change.note}});
  }
  return {{"format_version", 1},
          {"predicted", to_json(plan.predicted.front())},
          {"changes", std::move(list)}};
}

class Explain : public Command {
 public:
  void declare(Options& options) override {
    options.argument({"plan", "PLAN", "A plan file."}, plan_file_);
    options.toggle({"--json", "", "Prints JSON."}, json_);
  }

  Result<int> run() override {
    auto plan = load_plan(plan_file_);
    if (!plan) return plan.error();
    const auto changes = what_ifs_here(*plan);
    if (!changes) return changes.error();
    print(json_ ? render_json(as_json(*plan, *changes)) : text_of(*plan, *changes));
    return 0;
  }

 private:
  std::string plan_file_;
  bool json_ = false;
};

}  // namespace

CommandRow explain_command() {
  return {"explain", "Where the peak of a plan comes from, and what each knob would change.",
          "ftplan explain plan.json", [] { return std::make_unique<Explain>(); }};
}

}  // namespace ftplan::tools

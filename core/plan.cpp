#include "core/plan.h"

#include <string>
#include <string_view>

#include "core/json.h"
#include "core/result.h"

namespace ftplan {

Result<Plan> read_plan(std::string_view text, const std::string& where) {
  auto json = parse_json(text, where);
  if (!json) return json.error();
  return from_json<Plan>(*json, where, Missing::kIsAnError);
}

std::string render_plan(const Plan& plan) { return render_json(to_json(plan)); }

}  // namespace ftplan

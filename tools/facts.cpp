#include "tools/facts.h"

#include <optional>
#include <string>

#include "core/data_options.h"
#include "core/job.h"
#include "core/result.h"

namespace ftplan::tools {

Result<std::optional<DataFacts>> read_facts(const JobRequest& request, const std::string& /*model_folder*/) {
  if (request.data.data.empty()) return std::optional<DataFacts>{};
  return bad_input("--data", "reading data is not built yet: plan without it, for rows of --seq tokens");
}

}  // namespace ftplan::tools

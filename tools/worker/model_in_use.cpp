#include "tools/worker/model_in_use.h"

#include <utility>

#include "core/job.h"
#include "core/method.h"
#include "core/model_config.h"
#include "core/result.h"
#include "executor/loader.h"
#include "models/load.h"
#include "tools/environment.h"
#include "tools/resolve.h"
#include "tools/worker/commands.h"

namespace ftplan::tools {

Result<ModelInUse> open_model(const JobRequest& given) {
  JobRequest request = given;
  request.devices.gpus = "cpu";
  auto source = models::load_model_config(request.model, hub_environment());
  if (!source) return source.error();
  if (source->folder.empty()) {
    return bad_input("--model",
                     request.model + " is a preset without weights: name a model folder");
  }
  // What a method would train does not matter here, only whether its base is quantized.
  const StoredLinears stored = source->config.stored_linears;
  if (!is_quantized(request.method.method)) {
    const Method plain = request.adapter.empty() ? Method::kFull : Method::kLora;
    request.method.method = stored == StoredLinears::kPlain ? plain : method_for(stored);
  }
  JobRequest without_data = request;
  without_data.data.data.clear();
  auto resolved = resolve(without_data);
  if (!resolved) return resolved.error();
  if (request.adapter.empty())
    resolved->job.adapters.assign(resolved->job.adapters.size(), LoraShape{});
  auto machine = worker_machine();
  if (!machine) return machine.error();
  auto loader = executor::Loader::open(resolved->job, source->folder, request.adapter);
  if (!loader) return loader.error();
  // With the rows of new tokens that the adapter brings.
  source->config = resolved->job.model;
  return ModelInUse{std::move(resolved->job), *std::move(machine), *std::move(source),
                    *std::move(loader)};
}

}  // namespace ftplan::tools

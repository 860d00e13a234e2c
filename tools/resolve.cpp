#include "tools/resolve.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/devices.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/method.h"
#include "core/model_config.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/units.h"
#include "estimator/devices.h"
#include "estimator/hardware.h"
#include "models/adapter.h"
#include "models/adapter_config.h"
#include "models/adapter_names.h"
#include "models/family.h"
#include "models/files.h"
#include "models/load.h"
#include "tools/environment.h"
#include "tools/facts.h"
#include "tools/host.h"
#include "tools/scratch_cache.h"

namespace ftplan::tools {
namespace {

// Training goes on with the adapter's own shape.
Result<void> take_adapter(JobRequest& request, const ModelConfig& model) {
  const std::string path = models::join_path(request.adapter, models::kAdapterConfigFile);
  const auto text = models::read_text_file(path);
  if (!text) return text.error();
  const auto config = models::read_adapter_config(*text, path);
  if (!config) return config.error();
  const auto linears = models::adapted_linears(*config, model, path);
  if (!linears) return linears.error();
  const auto adapted = models::same_in_layers(*linears, model, path);
  if (!adapted) return adapted.error();
  if (request.method.method == Method::kFull) {
    return bad_input(
        "--adapter",
        "an adapter is trained by --method lora, qlora or int8-lora; merge it to train everything");
  }
  request.method.rank = config->rank;
  request.method.alpha = config->alpha;
  request.method.rslora = config->rslora;
  request.method.modules_to_save = config->modules_to_save;
  request.method.ensure_weight_tying = config->ensure_weight_tying;
  request.method.layers_to_transform = adapted->layers;
  request.method.targets.clear();
  request.method.rank_pattern.clear();
  request.method.alpha_pattern.clear();
  for (const models::AdaptedLinear& linear : adapted->linears) {
    const std::string& name = adapted_names(model.family)[static_cast<std::size_t>(linear.linear)];
    request.method.targets.push_back(name);
    if (linear.rank != config->rank)
      request.method.rank_pattern.push_back({name, static_cast<double>(linear.rank)});
    if (linear.alpha != config->alpha) request.method.alpha_pattern.push_back({name, linear.alpha});
  }
  return {};
}

Result<void> take_names(DeviceOptions& devices) {
  if (devices.gpus == "this") {
    auto here = devices_of_this(devices);
    if (!here) return here.error();
    devices = *std::move(here);
  }
  auto named = estimator::name_devices(devices);
  if (!named) return named.error();
  devices = std::move(named->options);
  return {};
}

// Scores of one row in one layer, in 16 bits, were they written out.
Bytes scores_of(const Job& job) { return {2 * job.model.heads * job.sequence * job.sequence}; }

// Rows for new tokens, of the request or of the adapter.
Result<void> grow(const JobRequest& request, models::ModelSource& source) {
  const std::int64_t before = source.config.vocabulary;
  if (!request.adapter.empty()) {
    source.config = models::with_vocabulary(
        source.config, models::adapted_vocabulary(request.adapter, source.config));
  }
  auto model = grown_model(request, source);
  if (!model) return model.error();
  source.config = *std::move(model);
  const std::int64_t more = source.config.vocabulary - before;
  if (more > 0) {
    source.notes.push_back("embedding and head grow by " + std::to_string(more) + " rows to " +
                           std::to_string(source.config.vocabulary) + " for new tokens");
  }
  return {};
}

// Targets that are a regular expression, as PEFT has it, become the names of what they find.
Result<void> find_targets(MethodOptions& method, const ModelConfig& model) {
  if (method.targets.size() != 1 || !models::is_regex(method.targets.front())) return {};
  const models::AdapterConfig config{.rank = method.rank,
                                     .alpha = method.alpha,
                                     .modules_to_save = method.modules_to_save,
                                     .ensure_weight_tying = method.ensure_weight_tying,
                                     .target_pattern = method.targets.front()};
  const auto adapted = models::adapted_linears(config, model, "--targets");
  if (!adapted) return adapted.error();
  if (!method.layers_to_transform.empty()) {
    return bad_input("--layers-to-transform", "got layers beside the regular expression " +
                                                  method.targets.front() +
                                                  " in --targets: it names the layers itself");
  }
  const auto same = models::same_in_layers(*adapted, model, "--targets");
  if (!same) return same.error();
  method.targets.clear();
  method.layers_to_transform = same->layers;
  for (const models::AdaptedLinear& linear : same->linears) {
    method.targets.push_back(adapted_names(model.family)[static_cast<std::size_t>(linear.linear)]);
  }
  return {};
}

Result<Machine> find_machine(const JobRequest& request) {
  auto devices = parse_devices(request.devices.gpus);
  if (!devices) return devices.error();
  const bool cpu = devices->name == "cpu";
  auto machine = estimator::machine_of(*devices, request.devices,
                                       cpu ? probe_host(devices->per_node) : Machine{});
  if (!machine || !cpu) return machine;
  auto scratch = load_scratch(cache_folder(), *machine);
  if (!scratch) return scratch.error();
  machine->scratch = *std::move(scratch);
  return machine;
}

}  // namespace

Result<DeviceOptions> devices_of_this(DeviceOptions asked, const std::string& root) {
  auto names = gpu_names(root);
  if (!names) return names.error();
  asked.gpus = "cpu";
  if (names->empty()) return asked;
  const std::string& name = names->front();
  const std::string count = std::to_string(names->size());
  if (name != names->back()) {
    return bad_input("--gpus", "this machine has GPUs of several kinds (" + name + ", " +
                                   names->back() + "): name those to use, such as 1xT4");
  }
  constexpr std::string_view kMaker = "NVIDIA ";
  const estimator::Hardware* device =
      estimator::find_hardware(name.starts_with(kMaker) ? name.substr(kMaker.size()) : name);
  if (device == nullptr) {
    return bad_input("--gpus", "this machine has " + count + " x " + name +
                                   ", which is not in the catalogue: name the nearest device and "
                                   "its memory, such as --gpus " +
                                   count + "xA6000 --memory 47");
  }
  asked.gpus = count + "x" + device->name;
  const auto free = available_memory(root);
  if (!asked.host_memory && free)
    asked.host_memory = static_cast<double>(free->value) / static_cast<double>(kGiB.value);
  return asked;
}

Result<Resolved> resolve(JobRequest request) {
  const std::string gpus = request.devices.gpus;
  if (auto named = take_names(request.devices); !named) return named.error();
  auto machine = find_machine(request);
  if (!machine) return machine.error();
  Precision& precision = request.method.precision;
  if (precision == Precision::kAuto) precision = default_precision(*machine);
  auto source = models::load_model_config(request.model, hub_environment());
  if (!source) return source.error();
  // Not a wish for a second quantization, which is the default for bases that are not quantized
  // yet.
  if (source->config.stored_linears == StoredLinears::kNf4)
    request.method.double_quantization = false;
  if (!request.adapter.empty()) {
    if (auto taken = take_adapter(request, source->config); !taken) return taken.error();
  }
  if (auto found = find_targets(request.method, source->config); !found) return found.error();
  if (auto grown = grow(request, *source); !grown) return grown.error();
  auto facts = read_facts(request, *source);
  if (!facts) return facts.error();
  auto job = validate(request, source->config, *facts);
  if (!job) return job.error();
  Resolved resolved{*std::move(job), *std::move(machine), *std::move(facts),
                    std::move(source->notes), gpus};
  const bool gpu = resolved.machine.backend == Backend::kCuda;
  if (const auto* device = gpu ? estimator::find_hardware(resolved.machine.name) : nullptr) {
    for (std::string& note : estimator::device_notes(*device, precision, scores_of(resolved.job)))
      resolved.notes.push_back(std::move(note));
  }
  return resolved;
}

Result<Plan> load_plan(const std::string& path) {
  const auto text = models::read_text_file(path);
  if (!text) return text.error();
  auto plan = read_plan(*text, path);
  if (!plan) return plan.error();
  if (plan->predicted.empty())
    return bad_input(path + "#/predicted", "got none, expected one for each rank");
  if (auto job = job_of(*plan); !job) return bad_input(path, job.error().text());
  return plan;
}

Result<Job> job_of(const Plan& plan) { return validate(plan.job, plan.model, plan.data); }

}  // namespace ftplan::tools

#include "models/adapter.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/dtype.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/shape.h"
#include "core/units.h"
#include "models/adapter_config.h"
#include "models/convert.h"
#include "models/family.h"
#include "models/files.h"
#include "models/safetensors.h"
#include "models/safetensors_header.h"
#include "models/safetensors_writer.h"

namespace ftplan::models {
namespace {

constexpr const char* kPickledWeightsFile = "adapter_model.bin";

const Weight& matrix_of(const Blueprint& blueprint, int linear) {
  for (const Weight& weight : blueprint.layer) {
    if (weight.kind == WeightKind::kMatrix && weight.linear == linear) return weight;
  }
  FTPLAN_CHECK(false);
  return blueprint.embedding;
}

std::string tensor_name(const Blueprint& blueprint, const Weight& weight, std::int64_t layer,
                        LoraMatrix matrix) {
  std::string name = "base_model.model." + layer_weight_name(blueprint, weight, layer);
  name.resize(name.size() - std::string(".weight").size());
  return name + (matrix == LoraMatrix::kA ? ".lora_A.weight" : ".lora_B.weight");
}

Shape matrix_shape(const Weight& weight, std::int64_t rank, LoraMatrix matrix) {
  return matrix == LoraMatrix::kA ? Shape{rank, weight.shape[1]} : Shape{weight.shape[0], rank};
}

std::vector<TensorSpec> specs_of(const std::vector<AdaptedLinear>& adapted,
                                 const ModelConfig& model, DType dtype) {
  const Blueprint blueprint = make_blueprint(model);
  std::vector<TensorSpec> specs;
  for (const AdaptedLinear& linear : adapted) {
    const Weight& weight = matrix_of(blueprint, linear.linear);
    for (const LoraMatrix matrix : {LoraMatrix::kA, LoraMatrix::kB}) {
      specs.push_back({tensor_name(blueprint, weight, linear.layer, matrix), dtype,
                       matrix_shape(weight, linear.rank, matrix)});
    }
  }
  return specs;
}

Result<SafetensorsFile> open_weights(const std::string& folder) {
  const std::string path = join_path(folder, kAdapterWeightsFile);
  if (!is_file(path) && is_file(join_path(folder, kPickledWeightsFile))) {
    return bad_input(
        folder, std::string("has its weights in ") + kPickledWeightsFile +
                    ", ftplan reads safetensors: load it with PEFT and save_pretrained it again");
  }
  return SafetensorsFile::open(path);
}

// Finds one matrix and says whether it is what the model needs.
Result<const TensorView*> find_matrix(const SafetensorsFile& file, const TensorSpec& expected,
                                      const std::string& base_model) {
  const std::string base = base_model.empty() ? "" : ": its base was " + in_quotes(base_model);
  const TensorView* tensor = file.find(expected.name);
  if (tensor == nullptr) {
    return bad_input(file.path(), "lacks " + expected.name + " " + expected.shape.text() +
                                      ", so it is cut off or was made for another model" + base);
  }
  const auto shape = tensor->shape();
  if (!shape || !(*shape == expected.shape)) {
    return bad_input(file.path(), "was made for another model" + base + "; " + expected.name +
                                      " is " + tensor->shape_text() + ", this model needs " +
                                      expected.shape.text());
  }
  if (const auto dtype = tensor->dtype(); !dtype || !is_float(*dtype)) {
    return bad_input(file.path(), expected.name + " is " + tensor->file_dtype->name +
                                      ", expected F32, F16 or BF16");
  }
  return tensor;
}

Result<void> check_no_more(const SafetensorsFile& file, const std::vector<TensorSpec>& expected) {
  std::unordered_set<std::string> names;
  for (const TensorSpec& spec : expected) names.insert(spec.name);
  for (const TensorView& tensor : file.tensors()) {
    if (names.contains(tensor.name)) continue;
    return bad_input(file.path(), "holds " + in_quotes(tensor.name) + " " + tensor.shape_text() +
                                      ", which " + kAdapterConfigFile +
                                      " does not lead to in this model");
  }
  return {};
}

}  // namespace

std::string adapter_tensor_name(const AdaptedLinear& linear, LoraMatrix matrix,
                                const ModelConfig& model) {
  const Blueprint blueprint = make_blueprint(model);
  return tensor_name(blueprint, matrix_of(blueprint, linear.linear), linear.layer, matrix);
}

std::vector<TensorSpec> adapter_specs(const AdapterConfig& config, const ModelConfig& model,
                                      DType dtype) {
  const auto adapted = adapted_linears(config, model, kAdapterConfigFile);
  FTPLAN_CHECK(adapted.ok());
  return specs_of(*adapted, model, dtype);
}

Bytes adapter_disk_bytes(const AdapterConfig& config, const ModelConfig& model, DType dtype) {
  const auto text = static_cast<std::int64_t>(render_adapter_config(config, model.family).size());
  return file_size(adapter_specs(config, model, dtype)) + Bytes{text};
}

Result<Adapter> Adapter::open(const std::string& folder, const ModelConfig& model) {
  const std::string path = join_path(folder, kAdapterConfigFile);
  if (!is_file(path)) return bad_input(folder, "is no PEFT adapter: it has no adapter_config.json");
  const auto text = read_text_file(path);
  if (!text) return text.error();
  auto config = read_adapter_config(*text, path);
  if (!config) return config.error();
  const auto adapted = adapted_linears(*config, model, path);
  if (!adapted) return adapted.error();
  auto file = open_weights(folder);
  if (!file) return file.error();

  Adapter adapter(*std::move(config), *std::move(file));
  const auto specs = specs_of(*adapted, model, DType::kF32);
  for (std::size_t i = 0; i < adapted->size(); ++i) {
    const auto a = find_matrix(adapter.file_, specs[2 * i], adapter.config_.base_model);
    if (!a) return a.error();
    const auto b = find_matrix(adapter.file_, specs[2 * i + 1], adapter.config_.base_model);
    if (!b) return b.error();
    adapter.modules_.push_back({(*adapted)[i], *a, *b});
  }
  if (auto checked = check_no_more(adapter.file_, specs); !checked) return checked.error();
  return adapter;
}

std::vector<float> values_of(const TensorView& tensor) {
  const auto dtype = tensor.dtype();
  FTPLAN_CHECK(dtype.ok() && is_float(*dtype));
  std::vector<float> values(tensor.bytes.size() / static_cast<std::size_t>(size_of(*dtype).value));
  to_f32(tensor.bytes, *dtype, values);
  return values;
}

AdapterWriter::AdapterWriter(std::string folder, AdapterConfig config, ModelConfig model,
                             SafetensorsWriter writer)
    : folder_(std::move(folder)),
      config_(std::move(config)),
      model_(std::move(model)),
      writer_(std::move(writer)) {}

Result<AdapterWriter> AdapterWriter::create(const std::string& folder, const AdapterConfig& config,
                                            const ModelConfig& model, DType dtype) {
  if (auto made = make_folder(folder); !made) return made.error();
  auto writer = SafetensorsWriter::create(join_path(folder, kAdapterWeightsFile),
                                          adapter_specs(config, model, dtype));
  if (!writer) return writer.error();
  return AdapterWriter(folder, config, model, *std::move(writer));
}

Result<void> AdapterWriter::write(const AdaptedLinear& linear, LoraMatrix matrix,
                                  std::span<const std::byte> bytes) {
  return writer_.write(adapter_tensor_name(linear, matrix, model_), bytes);
}

Result<void> AdapterWriter::finish() {
  if (auto finished = writer_.finish(); !finished) return finished;
  return write_text_file(join_path(folder_, kAdapterConfigFile),
                         render_adapter_config(config_, model_.family));
}

}  // namespace ftplan::models

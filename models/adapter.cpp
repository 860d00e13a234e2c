#include "models/adapter.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/dtype.h"
#include "core/job.h"
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

// The weight that a pair of matrices is added to, with its whole name; a tied head has its own.
Weight adapted_weight(const AdaptedLinear& linear, const Blueprint& blueprint,
                      const ModelConfig& model) {
  if (linear.linear == embedding_index(model.family)) return blueprint.embedding;
  if (linear.linear == head_index(model.family))
    return {kUntiedHead, blueprint.head.shape, WeightKind::kHead};
  for (const Weight& weight : blueprint.layer) {
    if (weight.kind != WeightKind::kMatrix || weight.linear != linear.linear) continue;
    Weight found = weight;
    found.name = layer_weight_name(blueprint, weight, linear.layer);
    return found;
  }
  FTPLAN_CHECK(false);
  return blueprint.embedding;
}

// Without `.weight`.
std::string stem_of(const Weight& weight) {
  const std::string name = adapter_weight_name(weight.name);
  return name.substr(0, name.size() - std::string(".weight").size());
}

std::string tensor_name(const Weight& weight, LoraMatrix matrix) {
  const std::string letter = matrix == LoraMatrix::kA ? "A" : "B";
  if (weight.kind == WeightKind::kEmbedding) return stem_of(weight) + ".lora_embedding_" + letter;
  return stem_of(weight) + ".lora_" + letter + ".weight";
}

// Inputs of an embedding are its rows.
Shape matrix_shape(const Weight& weight, std::int64_t rank, LoraMatrix matrix) {
  const bool embedding = weight.kind == WeightKind::kEmbedding;
  const std::int64_t inputs = weight.shape[embedding ? 0 : 1];
  const std::int64_t outputs = weight.shape[embedding ? 1 : 0];
  return matrix == LoraMatrix::kA ? Shape{rank, inputs} : Shape{outputs, rank};
}

// What PEFT saves of an adapted embedding or head beside the matrices, unless it is told not to.
std::vector<TensorSpec> base_specs(const std::vector<AdaptedLinear>& adapted,
                                   const ModelConfig& model) {
  const Blueprint blueprint = make_blueprint(model);
  std::vector<TensorSpec> specs;
  for (const AdaptedLinear& linear : adapted) {
    if (linear.linear < embedding_index(model.family)) continue;
    const Weight weight = adapted_weight(linear, blueprint, model);
    specs.push_back({stem_of(weight) + ".base_layer.weight", DType::kF32, weight.shape});
  }
  return specs;
}

// Of a tied pair both have a tensor.
std::vector<std::string> file_names(const std::string& weight, const ModelConfig& model) {
  std::vector<std::string> names = {adapter_weight_name(weight)};
  if (model.tied_embeddings && weight == make_blueprint(model).embedding.name)
    names.push_back(adapter_weight_name(kUntiedHead));
  return names;
}

std::vector<TensorSpec> specs_of(const std::vector<AdaptedLinear>& adapted,
                                 const std::vector<Weight>& saved, const ModelConfig& model,
                                 AdapterTypes types) {
  const Blueprint blueprint = make_blueprint(model);
  std::vector<TensorSpec> specs;
  for (const AdaptedLinear& linear : adapted) {
    const Weight weight = adapted_weight(linear, blueprint, model);
    for (const LoraMatrix matrix : {LoraMatrix::kA, LoraMatrix::kB}) {
      specs.push_back(
          {tensor_name(weight, matrix), types.matrices, matrix_shape(weight, linear.rank, matrix)});
    }
  }
  for (const Weight& weight : saved) {
    for (const std::string& name : file_names(weight.name, model))
      specs.push_back({name, types.weights, weight.shape});
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

// Finds one tensor and says whether it is what the model needs.
Result<const TensorView*> find_tensor(const SafetensorsFile& file, const TensorSpec& expected,
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
  return tensor_name(adapted_weight(linear, make_blueprint(model), model), matrix);
}

std::string adapter_weight_name(const std::string& weight) { return "base_model.model." + weight; }

bool is_adapter_matrix(std::string_view name) {
  return name.find(".lora_") != std::string_view::npos;
}

std::vector<TensorSpec> adapter_specs(const AdapterConfig& config, const ModelConfig& model,
                                      AdapterTypes types) {
  const auto adapted = adapted_linears(config, model, kAdapterConfigFile);
  FTPLAN_CHECK(adapted.ok());
  const auto saved = saved_weights(config, model, kAdapterConfigFile);
  FTPLAN_CHECK(saved.ok());
  return specs_of(*adapted, *saved, model, types);
}

Bytes adapter_disk_bytes(const AdapterConfig& config, const ModelConfig& model,
                         AdapterTypes types) {
  const auto text = static_cast<std::int64_t>(render_adapter_config(config, model.family).size());
  return file_size(adapter_specs(config, model, types)) + Bytes{text};
}

std::int64_t adapted_vocabulary(const std::string& folder, const ModelConfig& model) {
  const auto file = SafetensorsFile::open(join_path(folder, kAdapterWeightsFile));
  // What is wrong with it is said where it is opened.
  if (!file) return model.vocabulary;
  const TensorView* table = file->find(adapter_weight_name(make_blueprint(model).embedding.name));
  const auto shape = table == nullptr ? Result<Shape>(Shape{}) : table->shape();
  const bool grown =
      shape && shape->rank() == 2 && (*shape)[1] == model.hidden && (*shape)[0] > model.vocabulary;
  return grown ? (*shape)[0] : model.vocabulary;
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
  const auto saved = saved_weights(*config, model, path);
  if (!saved) return saved.error();
  auto file = open_weights(folder);
  if (!file) return file.error();

  Adapter adapter(*std::move(config), *std::move(file));
  auto specs = specs_of(*adapted, *saved, model, {});
  std::vector<const TensorView*> found;
  for (const TensorSpec& spec : specs) {
    const auto tensor = find_tensor(adapter.file_, spec, adapter.config_.base_model);
    if (!tensor) return tensor.error();
    found.push_back(*tensor);
  }
  std::size_t next = 0;
  for (const AdaptedLinear& linear : *adapted) {
    adapter.modules_.push_back({linear, found[next], found[next + 1]});
    next += 2;
  }
  for (const Weight& weight : *saved) {
    adapter.weights_.push_back({weight.name, found[next]});
    const std::size_t count = file_names(weight.name, model).size();
    if (count > 1 && !std::ranges::equal(found[next]->bytes, found[next + 1]->bytes)) {
      return bad_input(adapter.file_.path(), found[next]->name + " and " + found[next + 1]->name +
                                                 " differ, but this model ties them");
    }
    next += count;
  }
  const auto bases = adapter.read_bases(base_specs(*adapted, model), model);
  if (!bases) return bases.error();
  specs.insert(specs.end(), bases->begin(), bases->end());
  if (auto checked = check_no_more(adapter.file_, specs); !checked) return checked.error();
  return adapter;
}

Result<std::vector<TensorSpec>> Adapter::read_bases(const std::vector<TensorSpec>& possible,
                                                    const ModelConfig& model) {
  constexpr std::string_view kBegin = "base_model.model.";
  constexpr std::string_view kEnd = ".base_layer.weight";
  std::vector<TensorSpec> found;
  for (const TensorSpec& spec : possible) {
    if (file_.find(spec.name) == nullptr) continue;
    const auto tensor = find_tensor(file_, spec, config_.base_model);
    if (!tensor) return tensor.error();
    std::string name = spec.name.substr(kBegin.size());
    name = name.substr(0, name.size() - kEnd.size()) + ".weight";
    if (model.tied_embeddings) name = make_blueprint(model).embedding.name;
    if (find_weight(name) == nullptr) weights_.push_back({name, *tensor});
    found.push_back(spec);
  }
  return found;
}

const TensorView* Adapter::find_weight(std::string_view name) const {
  const auto found = std::find_if(weights_.begin(), weights_.end(),
                                  [&](const AdapterWeight& weight) { return weight.name == name; });
  return found == weights_.end() ? nullptr : found->values;
}

std::vector<float> values_of(const TensorView& tensor) {
  const auto dtype = tensor.dtype();
  FTPLAN_CHECK(dtype.ok() && is_float(*dtype));
  std::vector<float> values(tensor.bytes.size() / static_cast<std::size_t>(size_of(*dtype).value));
  to_f32(tensor.bytes, *dtype, values);
  return values;
}

std::vector<float> transposed(std::span<const float> values, std::size_t rows) {
  const std::size_t columns = values.size() / rows;
  std::vector<float> turned(values.size());
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t column = 0; column < columns; ++column)
      turned[column * rows + row] = values[row * columns + column];
  }
  return turned;
}

AdapterWriter::AdapterWriter(std::string folder, AdapterConfig config, ModelConfig model,
                             SafetensorsWriter writer)
    : folder_(std::move(folder)),
      config_(std::move(config)),
      model_(std::move(model)),
      writer_(std::move(writer)) {}

Result<AdapterWriter> AdapterWriter::create(const std::string& folder, const AdapterConfig& config,
                                            const ModelConfig& model, AdapterTypes types) {
  if (auto made = make_folder(folder); !made) return made.error();
  auto writer = SafetensorsWriter::create(join_path(folder, kAdapterWeightsFile),
                                          adapter_specs(config, model, types));
  if (!writer) return writer.error();
  return AdapterWriter(folder, config, model, *std::move(writer));
}

Result<void> AdapterWriter::write(const AdaptedLinear& linear, LoraMatrix matrix,
                                  std::span<const std::byte> bytes) {
  return writer_.write(adapter_tensor_name(linear, matrix, model_), bytes);
}

Result<void> AdapterWriter::write(const std::string& name, std::span<const std::byte> bytes) {
  for (const std::string& in_file : file_names(name, model_)) {
    if (auto written = writer_.write(in_file, bytes); !written) return written;
  }
  return {};
}

Result<void> AdapterWriter::finish() {
  if (auto finished = writer_.finish(); !finished) return finished;
  return write_text_file(join_path(folder_, kAdapterConfigFile),
                         render_adapter_config(config_, model_.family));
}

}  // namespace ftplan::models

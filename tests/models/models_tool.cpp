#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/shape.h"
#include "core/units.h"
#include "models/adapter.h"
#include "models/adapter_config.h"
#include "models/checkpoint.h"
#include "models/config_reader.h"
#include "models/convert.h"
#include "models/dynamic_map.h"
#include "models/family.h"
#include "models/files.h"
#include "models/int8.h"
#include "models/load.h"
#include "models/merge.h"
#include "models/nf4.h"
#include "models/preset_files.h"
#include "models/presets.h"
#include "models/safetensors.h"
#include "models/safetensors_header.h"
#include "models/safetensors_writer.h"
#include "models/shards.h"

/// What the Python peers call: one command, JSON on stdout, an error's line on stderr.
namespace ftplan::models {
namespace {

using Arguments = std::vector<std::string>;

Json shape_json(const std::vector<std::int64_t>& extents) { return extents; }

Json weights_json(const ModelConfig& config) {
  Json weights = Json::object();
  for (const Weight& weight : all_weights(make_blueprint(config), config)) {
    Json shape = Json::array();
    for (int axis = 0; axis < weight.shape.rank(); ++axis) shape.push_back(weight.shape[axis]);
    weights[weight.name] = shape;
  }
  return weights;
}

Json model_json(const ModelConfig& config) {
  return {{"config", to_json(config)},
          {"weights", weights_json(config)},
          {"parameters", count_parameters(config)}};
}

// model SOURCE
Result<Json> show_model(const Arguments& arguments) {
  const auto source = load_model_config(arguments.at(0), {});
  if (!source) return source.error();
  Json json = model_json(source->config);
  json["notes"] = source->notes;
  return json;
}

Result<Json> show_presets(const Arguments& /*arguments*/) {
  Json all = Json::object();
  for (const EmbeddedFile& file : preset_files()) {
    const Preset* preset = find_preset(file.name);
    all[preset->name] = model_json(preset->config);
    all[preset->name]["file"] = Json::parse(file.text);
  }
  return all;
}

// inspect FILE
Result<Json> inspect(const Arguments& arguments) {
  const auto file = SafetensorsFile::open(arguments.at(0));
  if (!file) return file.error();
  Json tensors = Json::object();
  for (const TensorView& tensor : file->tensors()) {
    std::uint64_t sum = 0;  // FNV-1a
    for (const std::byte byte : tensor.bytes)
      sum = (sum ^ static_cast<std::uint64_t>(byte)) * 1099511628211U;
    tensors[tensor.name] = {{"dtype", tensor.file_dtype->name},
                            {"shape", shape_json(tensor.extents)},
                            {"sum", std::to_string(sum)}};
  }
  Json metadata = Json::object();
  for (const auto& [key, value] : file->metadata()) metadata[key] = value;
  return Json{{"metadata", metadata}, {"tensors", tensors}};
}

// verdicts FOLDER: for each file, "ok" or why it is refused
Result<Json> show_verdicts(const Arguments& arguments) {
  Json verdicts = Json::object();
  for (const auto& entry : std::filesystem::directory_iterator(arguments.at(0))) {
    const auto file = SafetensorsFile::open(entry.path().string());
    verdicts[entry.path().filename().string()] = file ? "ok" : file.error().message;
  }
  return verdicts;
}

// rewrite FROM TO: the same tensors through the writer, in pieces of odd size
Result<Json> rewrite(const Arguments& arguments) {
  const auto file = SafetensorsFile::open(arguments.at(0));
  if (!file) return file.error();
  std::vector<TensorSpec> specs;
  for (const TensorView& tensor : file->tensors()) {
    const auto spec = spec_of(tensor);
    if (!spec) return spec.error();
    specs.push_back(*spec);
  }
  auto writer = SafetensorsWriter::create(arguments.at(1), specs, file->metadata());
  if (!writer) return writer.error();
  for (const TensorView& tensor : file->tensors()) {
    for (std::size_t at = 0; at < tensor.bytes.size(); at += 1001) {
      const std::size_t size = std::min<std::size_t>(1001, tensor.bytes.size() - at);
      if (auto written = writer->write(tensor.name, tensor.bytes.subspan(at, size)); !written) {
        return written.error();
      }
    }
  }
  if (auto finished = writer->finish(); !finished) return finished.error();
  return Json{{"predicted", file_size(specs, file->metadata()).value}};
}

struct NamedBytes {
  TensorSpec spec;
  std::vector<std::byte> bytes;
};

template <class T>
NamedBytes named(const std::string& name, DType dtype, const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {{name, dtype, Shape{static_cast<std::int64_t>(values.size())}},
          {bytes.begin(), bytes.end()}};
}

// All that quantization of `tensor` gives, and its values with and without double quantization.
std::vector<NamedBytes> quantized(const TensorView& tensor, DType dtype) {
  const auto elements = static_cast<std::int64_t>(tensor.bytes.size()) / size_of(dtype).value;
  std::vector<float> values(static_cast<std::size_t>(elements));
  to_f32(tensor.bytes, dtype, values);
  const Nf4Counts counts = nf4_counts(elements);
  std::vector<std::uint8_t> packed(static_cast<std::size_t>(counts.packed));
  std::vector<float> absmax(static_cast<std::size_t>(counts.blocks));
  std::vector<std::uint8_t> codes(absmax.size());
  std::vector<float> nested(static_cast<std::size_t>(counts.nested));
  quantize_nf4(values, packed, absmax);
  const float offset = mean_of(absmax);
  quantize_absmax(absmax, offset, codes, nested);
  std::vector<NamedBytes> all = {named(tensor.name + ".packed", DType::kU8, packed),
                                 named(tensor.name + ".absmax", DType::kF32, absmax),
                                 named(tensor.name + ".codes", DType::kU8, codes),
                                 named(tensor.name + ".nested", DType::kF32, nested),
                                 named(tensor.name + ".offset", DType::kF32, std::vector{offset})};
  dequantize_nf4(packed, absmax, values);
  all.push_back(named(tensor.name + ".single", DType::kF32, values));
  dequantize_absmax(codes, nested, offset, absmax);
  dequantize_nf4(packed, absmax, values);
  all.push_back(named(tensor.name + ".double", DType::kF32, values));
  return all;
}

Result<Json> write_all(const std::string& path, const std::vector<NamedBytes>& all) {
  std::vector<TensorSpec> specs;
  specs.reserve(all.size());
  for (const NamedBytes& part : all) specs.push_back(part.spec);
  auto writer = SafetensorsWriter::create(path, specs);
  if (!writer) return writer.error();
  for (const NamedBytes& part : all) {
    if (auto written = writer->write(part.spec.name, part.bytes); !written) return written.error();
  }
  if (auto finished = writer->finish(); !finished) return finished.error();
  return Json{{"tensors", all.size()}};
}

// nf4 FROM TO: the tensors of a file as NF4
Result<Json> quantize(const Arguments& arguments) {
  const auto file = SafetensorsFile::open(arguments.at(0));
  if (!file) return file.error();
  const auto& map = signed_dynamic_map().values;
  std::vector<NamedBytes> all = {
      named("map", DType::kF32, std::vector<float>(map.begin(), map.end()))};
  for (const TensorView& tensor : file->tensors()) {
    const auto dtype = tensor.dtype();
    if (!dtype) return dtype.error();
    for (NamedBytes& part : quantized(tensor, *dtype)) all.push_back(std::move(part));
  }
  return write_all(arguments.at(1), all);
}

// int8 FROM TO: the tensors of a file as in LLM.int8
Result<Json> quantize_rows(const Arguments& arguments) {
  const auto file = SafetensorsFile::open(arguments.at(0));
  if (!file) return file.error();
  std::vector<NamedBytes> all;
  for (const TensorView& tensor : file->tensors()) {
    const auto dtype = tensor.dtype();
    if (!dtype) return dtype.error();
    std::vector<float> values(tensor.bytes.size() /
                              static_cast<std::size_t>(size_of(*dtype).value));
    to_f32(tensor.bytes, *dtype, values);
    const auto shape = tensor.shape();
    if (!shape) return shape.error();
    const auto width = static_cast<std::size_t>(shape->width());
    std::vector<std::int8_t> codes(values.size());
    std::vector<float> scales;
    for (std::size_t at = 0; at < values.size(); at += width) {
      const std::span row(values.data() + at, width);
      const std::span codes_of_row(codes.data() + at, width);
      scales.push_back(int8_absmax(row));
      quantize_int8(row, scales.back(), codes_of_row);
      dequantize_int8(codes_of_row, scales.back(), row);
    }
    all.push_back(named(tensor.name + ".CB", DType::kI8, codes));
    all.push_back(named(tensor.name + ".SCB", DType::kF32, scales));
    all.push_back(named(tensor.name + ".values", DType::kF32, values));
  }
  return write_all(arguments.at(1), all);
}

// dynamic FROM TO: the tensors of a file in blocks of 8-bit codes, by the name of the map
Result<Json> quantize_dynamic(const Arguments& arguments) {
  const auto file = SafetensorsFile::open(arguments.at(0));
  if (!file) return file.error();
  std::vector<NamedBytes> all;
  for (const auto& [map_name, map] : {std::pair{"signed", &signed_dynamic_map()},
                                      std::pair{"unsigned", &unsigned_dynamic_map()}}) {
    all.push_back(
        named(map_name, DType::kF32, std::vector<float>(map->values.begin(), map->values.end())));
    for (const TensorView& tensor : file->tensors()) {
      std::vector<float> values(tensor.bytes.size() / sizeof(float));
      to_f32(tensor.bytes, DType::kF32, values);
      std::vector<std::uint8_t> codes(values.size());
      std::vector<float> absmax;
      std::vector<float> again(values.size());
      for (std::size_t at = 0; at < values.size(); at += kDynamicBlock) {
        const std::size_t size = std::min<std::size_t>(kDynamicBlock, values.size() - at);
        const std::span block(codes.data() + at, size);
        absmax.push_back(quantize_block({values.data() + at, size}, *map, block));
        dequantize_block(block, absmax.back(), *map, {again.data() + at, size});
      }
      const std::string name = tensor.name + "." + map_name;
      all.push_back(named(name + ".codes", DType::kU8, codes));
      all.push_back(named(name + ".absmax", DType::kF32, absmax));
      all.push_back(named(name + ".values", DType::kF32, again));
    }
  }
  return write_all(arguments.at(1), all);
}

// reshard FROM TO BYTES ORDER: a model folder through the sharded writer, in the order of a JSON
// list of names
Result<Json> reshard(const Arguments& arguments) {
  const auto checkpoint = Checkpoint::open(arguments.at(0));
  if (!checkpoint) return checkpoint.error();
  std::vector<TensorSpec> specs;
  for (const Json& name : Json::parse(arguments.at(3))) {
    const auto spec = spec_of(*checkpoint->find(name.get<std::string>()));
    if (!spec) return spec.error();
    specs.push_back(*spec);
  }
  const ShardPlan plan = plan_shards(specs, Bytes{std::stoll(arguments.at(2))});
  auto writer = ShardedWriter::create(arguments.at(1), plan);
  if (!writer) return writer.error();
  for (const TensorSpec& spec : specs) {
    if (auto written = writer->write(spec.name, checkpoint->find(spec.name)->bytes); !written) {
      return written.error();
    }
  }
  if (auto finished = writer->finish(); !finished) return finished.error();
  return Json{{"predicted", plan.disk_bytes().value}};
}

// check FOLDER: do the weights fit the configuration?
Result<Json> check(const Arguments& arguments) {
  const auto source = load_model_config(arguments.at(0), {});
  if (!source) return source.error();
  const auto checkpoint = Checkpoint::open(arguments.at(0));
  if (!checkpoint) return checkpoint.error();
  const auto checked = check_weights(*checkpoint, source->config);
  if (!checked) return checked.error();
  return Json{{"tensors", checkpoint->tensors().size()}};
}

// adapter MODEL ADAPTER TO DTYPE: an adapter through reader and writer
Result<Json> copy_adapter(const Arguments& arguments) {
  const auto source = load_model_config(arguments.at(0), {});
  if (!source) return source.error();
  const auto adapter = Adapter::open(arguments.at(1), source->config);
  if (!adapter) return adapter.error();
  const DType dtype = *from_text<DType>(arguments.at(3));
  const AdapterTypes types{dtype, dtype};
  auto writer = AdapterWriter::create(arguments.at(2), adapter->config(), source->config, types);
  if (!writer) return writer.error();
  const auto converted = [&](const TensorView& tensor) {
    const std::vector<float> values = values_of(tensor);
    std::vector<std::byte> bytes(values.size() * static_cast<std::size_t>(size_of(dtype).value));
    from_f32(values, dtype, bytes);
    return bytes;
  };
  for (const AdapterModule& module : adapter->modules()) {
    for (const LoraMatrix matrix : {LoraMatrix::kA, LoraMatrix::kB}) {
      const auto bytes = converted(matrix == LoraMatrix::kA ? *module.a : *module.b);
      if (auto written = writer->write(module.linear, matrix, bytes); !written)
        return written.error();
    }
  }
  for (const AdapterWeight& weight : adapter->weights()) {
    if (auto written = writer->write(weight.name, converted(*weight.values)); !written)
      return written.error();
  }
  if (auto finished = writer->finish(); !finished) return finished.error();
  Json scalings = Json::array();
  for (const AdapterModule& module : adapter->modules())
    scalings.push_back(module.linear.scaling(adapter->config().rslora));
  return Json{{"scalings", scalings},
              {"modules", adapter->modules().size()},
              {"predicted", adapter_disk_bytes(adapter->config(), source->config, types).value}};
}

// adapted MODEL CONFIGS: what each configuration of a list adapts, with rank and alpha, or why it
// is refused
Result<Json> show_adapted(const Arguments& arguments) {
  const auto source = load_model_config(arguments.at(0), {});
  if (!source) return source.error();
  const auto text = read_text_file(arguments.at(1));
  if (!text) return text.error();
  Json all = Json::array();
  for (const Json& one : Json::parse(*text)) {
    const auto config = read_adapter_config(one.dump(), "config");
    const auto adapted =
        config ? adapted_linears(*config, source->config, "config") : config.error();
    if (!adapted) {
      all.push_back(adapted.error().text());
      continue;
    }
    Json modules = Json::object();
    for (const AdaptedLinear& linear : *adapted) {
      const std::string name = adapter_tensor_name(linear, LoraMatrix::kA, source->config);
      modules[name] = {linear.rank, linear.alpha};
    }
    all.push_back(modules);
  }
  return all;
}

// merge BASE ADAPTER TO
Result<Json> merge(const Arguments& arguments) {
  const auto summary =
      merge_adapter({arguments.at(0), arguments.at(1), arguments.at(2), /*threads=*/2});
  if (!summary) return summary.error();
  return Json{{"merged", summary->merged},
              {"copied", summary->copied},
              {"written", summary->written.value}};
}

// convert FROM TO DTYPE: all tensors of a file of floats in another element type
Result<Json> convert(const Arguments& arguments) {
  const auto file = SafetensorsFile::open(arguments.at(0));
  if (!file) return file.error();
  const DType dtype = *from_text<DType>(arguments.at(2));
  std::vector<TensorSpec> specs;
  for (const TensorView& tensor : file->tensors())
    specs.push_back({tensor.name, dtype, *tensor.shape()});
  auto writer = SafetensorsWriter::create(arguments.at(1), specs);
  if (!writer) return writer.error();
  for (const TensorView& tensor : file->tensors()) {
    const std::vector<float> values = values_of(tensor);
    std::vector<std::byte> bytes(values.size() * static_cast<std::size_t>(size_of(dtype).value));
    from_f32(values, dtype, bytes);
    if (auto written = writer->write(tensor.name, bytes); !written) return written.error();
  }
  if (auto finished = writer->finish(); !finished) return finished.error();
  return Json::object();
}

Result<Json> run(const std::string& command, const Arguments& arguments) {
  if (command == "model") return show_model(arguments);
  if (command == "presets") return show_presets(arguments);
  if (command == "inspect") return inspect(arguments);
  if (command == "verdicts") return show_verdicts(arguments);
  if (command == "rewrite") return rewrite(arguments);
  if (command == "reshard") return reshard(arguments);
  if (command == "check") return check(arguments);
  if (command == "adapter") return copy_adapter(arguments);
  if (command == "adapted") return show_adapted(arguments);
  if (command == "merge") return merge(arguments);
  if (command == "convert") return convert(arguments);
  if (command == "nf4") return quantize(arguments);
  if (command == "int8") return quantize_rows(arguments);
  if (command == "dynamic") return quantize_dynamic(arguments);
  return bad_input(command, "unknown command");
}

}  // namespace
}  // namespace ftplan::models

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty()) return 2;
  const auto result = ftplan::models::run(words[0], {words.begin() + 1, words.end()});
  if (!result) {
    std::cerr << result.error().text() << "\n";
    return ftplan::exit_code(result.error().code);
  }
  std::cout << result->dump() << "\n";
  return 0;
}

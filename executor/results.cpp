#include "executor/results.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "core/category.h"
#include "core/dtype.h"
#include "core/job.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/units.h"
#include "data/saved_tokenizer.h"
#include "data/tokenizer.h"
#include "executor/call.h"
#include "executor/rank_run.h"
#include "models/adapter.h"
#include "models/adapter_config.h"
#include "models/convert.h"
#include "models/family.h"
#include "models/files.h"
#include "models/folder_text.h"
#include "models/safetensors.h"
#include "models/shards.h"
#include "program/run_files.h"
#include "program/step_program.h"

namespace ftplan::executor {
namespace {

namespace fs = std::filesystem;

std::span<const std::byte> bytes_of(const View& view) {
  return {view.data, static_cast<std::size_t>((view.elements() * size_of(view.dtype())).value)};
}

// What a 16-bit run keeps as f32 is rounded as its other weights are.
template <class Writer>
Result<void> write_weight(Writer& writer, const std::string& name, const View& values,
                          DType dtype) {
  if (values.dtype() == dtype) return writer.write(name, bytes_of(values));
  std::vector<std::byte> rounded(
      static_cast<std::size_t>((values.elements() * size_of(dtype)).value));
  models::from_f32({values.as<float>(), static_cast<std::size_t>(values.elements())}, dtype,
                   rounded);
  return writer.write(name, rounded);
}

std::string full_name(const Job& job, const program::WeightBinding& binding, std::int32_t layer) {
  if (!binding.per_layer) return binding.name;
  const auto blueprint = models::make_blueprint(job.model);
  return models::layer_weight_name(
      blueprint, blueprint.layer[static_cast<std::size_t>(binding.table_index)], layer);
}

Result<void> write_half(models::AdapterWriter& writer, const program::AdapterBinding& binding,
                        std::int32_t layer, const View& values) {
  const auto matrix = binding.b ? models::LoraMatrix::kB : models::LoraMatrix::kA;
  if (!binding.transposed) return writer.write({layer, binding.linear}, matrix, bytes_of(values));
  const std::vector<float> turned =
      models::transposed({values.as<float>(), static_cast<std::size_t>(values.elements())},
                         static_cast<std::size_t>(values.rows()));
  return writer.write({layer, binding.linear}, matrix, std::as_bytes(std::span(turned)));
}

Result<void> write_adapter(RankRun& run, const std::string& folder) {
  const Job& job = run.setup().job;
  const models::AdapterTypes types = program::adapter_types(job);
  auto writer =
      models::AdapterWriter::create(folder, program::adapter_config_of(job), job.model, types);
  if (!writer) return writer.error();
  const auto ok = run.save([&](const StoredValues& stored) {
    if (stored.adapter != nullptr)
      return write_half(*writer, *stored.adapter, stored.layer, stored.values);
    return write_weight(*writer, full_name(job, *stored.weight, stored.layer), stored.values,
                        types.weights);
  });
  if (!ok) return ok.error();
  return writer->finish();
}

Result<void> write_model(RankRun& run, const std::string& folder) {
  const Job& job = run.setup().job;
  const DType dtype = program::result_dtype(job);
  auto writer = models::ShardedWriter::create(folder, program::model_shards(job));
  if (!writer) return writer.error();
  const auto ok = run.save([&](const StoredValues& stored) {
    return write_weight(*writer, full_name(job, *stored.weight, stored.layer), stored.values,
                        dtype);
  });
  if (!ok) return ok.error();
  return writer->finish();
}

// Everything of the model that is not weights: configuration, tokenizer, templates.
Result<void> copy_companions(const std::string& from, const std::string& to) {
  std::error_code error;
  if (!models::is_file(models::join_path(from, "config.json"))) {
    return run_failed(from,
                      "has no config.json any more, which the result needs: the state is "
                      "saved, so run again when the folder is whole");
  }
  for (const auto& entry : fs::directory_iterator(from, error)) {
    const std::string name = entry.path().filename().string();
    const bool wanted =
        name.ends_with(".json") || name == "tokenizer.model" || name.ends_with(".jinja");
    if (!entry.is_regular_file() || !wanted || name == models::kIndexFile) continue;
    fs::copy_file(entry.path(), fs::path(to) / name, fs::copy_options::overwrite_existing, error);
    if (error) return run_failed(to + "/" + name, "cannot be written: " + error.message());
  }
  if (error) return run_failed(from, "cannot be read: " + error.message());
  return {};
}

// The configuration of a model that has rows for new tokens.
Result<void> write_grown_config(const std::string& from, const std::string& to, std::int64_t rows) {
  const std::string path = models::join_path(from, "config.json");
  const auto text = models::read_text_file(path);
  if (!text) return text.error();
  const auto grown = models::config_with_vocabulary(*text, path, rows);
  if (!grown) return grown.error();
  return models::write_text_file(models::join_path(to, "config.json"), *grown);
}

Result<void> write_tokenizer(const data::TokenizerSource& source, const std::string& to) {
  // Data of tokens may do without.
  if (!data::has_tokenizer(source.folder)) return {};
  const auto tokenizer = data::load_tokenizer(source);
  if (!tokenizer) return tokenizer.error();
  return data::save_tokenizer(source, **tokenizer, to);
}

std::string folder_of(const RankRun& run, const std::string& output) {
  return output + (run.setup().job.lora() ? "/adapter" : "/model");
}

}  // namespace

Result<std::string> write_result(RankRun& run, const std::string& output,
                                 const std::string& model_folder,
                                 const data::TokenizerSource& tokenizer) {
  const std::string folder = folder_of(run, output);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return run_failed(folder, "cannot be made: " + error.message());
  const bool adapter = run.setup().job.lora();
  if (auto ok = adapter ? write_adapter(run, folder) : write_model(run, folder); !ok)
    return ok.error();
  if (!adapter) {
    if (auto ok = copy_companions(model_folder, folder); !ok) return ok.error();
  }
  const ModelConfig& model = run.setup().job.model;
  const bool grown = model.stored_vocabulary > 0;
  if (grown && !adapter) {
    if (auto ok = write_grown_config(model_folder, folder, model.vocabulary); !ok)
      return ok.error();
  }
  const bool brought = !adapter ? false : tokenizer.folder != model_folder;
  if (grown || brought || !tokenizer.added.empty()) {
    if (auto ok = write_tokenizer(tokenizer, folder); !ok) return ok.error();
  }
  return folder;
}

PlaceBytes result_disk_bytes(const RankRun& run, const std::string& output) {
  PlaceBytes bytes;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_of(run, output), error)) {
    const std::string name = entry.path().filename().string();
    const bool weights = name.ends_with(".safetensors");
    if (!weights && name != models::kAdapterConfigFile && name != models::kIndexFile) continue;
    bytes.peak += Bytes{static_cast<std::int64_t>(entry.file_size(error))};
    if (!weights) continue;
    const auto file = models::SafetensorsFile::open(entry.path().string());
    if (!file) continue;
    for (const models::TensorView& tensor : file->tensors()) {
      bytes[program::category_in_result(tensor.name)] +=
          Bytes{static_cast<std::int64_t>(tensor.bytes.size())};
    }
  }
  bytes.unused = bytes.peak - bytes.live();
  return bytes;
}

}  // namespace ftplan::executor

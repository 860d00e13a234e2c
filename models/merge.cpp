#include "models/merge.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/enums.h"
#include "core/job.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/shape.h"
#include "core/text.h"
#include "core/units.h"
#include "models/adapter.h"
#include "models/adapter_config.h"
#include "models/checkpoint.h"
#include "models/config_reader.h"
#include "models/convert.h"
#include "models/family.h"
#include "models/files.h"
#include "models/merge_kernel.h"
#include "models/output_file.h"
#include "models/safetensors.h"
#include "models/safetensors_header.h"
#include "models/safetensors_writer.h"
#include "models/shards.h"

namespace ftplan::models {
namespace {

constexpr const char* kConfigFile = "config.json";

// Rows are merged in blocks of about this size, one per thread.
constexpr Bytes kBlock = 8 * kMiB;

// Rows that use a tile of A while it is in the second-level cache.
constexpr std::size_t kRowsAtOnce = 8;

// What belongs to a model beside its weights and its configuration.
bool is_companion(std::string_view name) {
  constexpr std::array kEndings = {".json", ".model", ".jinja", ".txt"};
  constexpr std::array kBeginnings = {"LICENSE", "NOTICE", "USE_POLICY"};
  if (name == kConfigFile || name == kAdapterConfigFile || name.ends_with(".index.json"))
    return false;
  return std::any_of(kEndings.begin(), kEndings.end(),
                     [&](auto end) { return name.ends_with(end); }) ||
         std::any_of(kBeginnings.begin(), kBeginnings.end(),
                     [&](auto begin) { return name.starts_with(begin); });
}

// Names in the base folder that are copied as they are, the configuration last.
std::vector<std::string> companions(const Checkpoint& base) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(base.folder(), ignored)) {
    const std::string name = entry.path().filename().string();
    if (is_companion(name) && is_file(entry.path().string())) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  if (base.sharded()) names.emplace_back(kIndexFile);
  names.emplace_back(kConfigFile);
  return names;
}

Bytes size_on_disk(const std::string& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  return Bytes{error ? 0 : static_cast<std::int64_t>(size)};
}

// A file of the base and what takes its place.
struct OutputShard {
  const SafetensorsFile* source = nullptr;
  std::string name;  // relative to both folders
  std::vector<TensorSpec> specs;
  Metadata metadata;
};

Result<std::vector<OutputShard>> plan_output(const Checkpoint& base) {
  std::vector<OutputShard> shards;
  for (const SafetensorsFile& file : base.files()) {
    OutputShard shard{.source = &file, .metadata = file.metadata()};
    shard.name = std::filesystem::path(file.path()).lexically_relative(base.folder()).string();
    for (const TensorView& tensor : file.tensors()) {
      auto spec = spec_of(tensor);
      if (!spec) return spec.error();
      shard.specs.push_back(*std::move(spec));
    }
    const bool has_format = std::any_of(shard.metadata.begin(), shard.metadata.end(),
                                        [](const auto& entry) { return entry.first == "format"; });
    if (!has_format) shard.metadata.emplace_back("format", "pt");
    shards.push_back(std::move(shard));
  }
  return shards;
}

// Equal as f32, so that each type is compared by its values.
bool same_values(const TensorView& a, const TensorView& b) {
  return a.bytes.size() == b.bytes.size() && *a.dtype() == *b.dtype()
             ? std::ranges::equal(a.bytes, b.bytes)
             : values_of(a) == values_of(b);
}

// Everything the merge needs, opened and checked before the first byte is written.
class Merger {
 public:
  Merger(const MergeRequest& request, const std::function<void(const MergeProgress&)>& progress,
         Checkpoint base, Adapter adapter)
      : request_(request),
        progress_(progress),
        base_(std::move(base)),
        adapter_(std::move(adapter)) {}

  Result<MergeSummary> run(const ModelConfig& model) {
    find_targets(model);
    auto shards = plan_output(base_);
    if (!shards) return shards.error();
    if (auto fits = check_space(*shards); !fits) return fits.error();
    for (const OutputShard& shard : *shards) {
      if (auto written = write_shard(shard); !written) return written.error();
    }
    for (const std::string& name : companions(base_)) {
      const auto text = read_text_file(join_path(base_.folder(), name));
      if (!text) return text.error();
      if (auto written = write_text_file(join_path(request_.output, name), *text); !written) {
        return written.error();
      }
    }
    return summary_;
  }

 private:
  void find_targets(const ModelConfig& model) {
    const Blueprint blueprint = make_blueprint(model);
    for (const AdapterModule& module : adapter_.modules()) {
      if (module.linear.linear == embedding_index(model.family))
        targets_[base_.find(blueprint.embedding.name)] = &module;
      if (module.linear.linear == head_index(model.family))
        targets_[base_.find(blueprint.head.name)] = &module;
      for (const Weight& weight : blueprint.layer) {
        if (weight.kind != WeightKind::kMatrix || weight.linear != module.linear.linear) continue;
        targets_[base_.find(layer_weight_name(blueprint, weight, module.linear.layer))] = &module;
      }
    }
    for (const AdapterWeight& weight : adapter_.weights()) {
      replaced_[base_.find(weight.name)] = weight.values;
      // Some checkpoints hold a tied head, too.
      const bool tied = model.tied_embeddings && weight.name == blueprint.embedding.name;
      if (tied && base_.find(kUntiedHead) != nullptr)
        replaced_[base_.find(kUntiedHead)] = weight.values;
    }
  }

  Result<void> check_space(const std::vector<OutputShard>& shards) {
    for (const OutputShard& shard : shards) {
      summary_.written += file_size(shard.specs, shard.metadata);
      for (const TensorSpec& spec : shard.specs) total_ += spec.bytes();
    }
    for (const std::string& name : companions(base_)) {
      summary_.written += size_on_disk(join_path(base_.folder(), name));
    }
    const auto free = free_space(request_.output);
    if (!free) return free.error();
    if (*free >= summary_.written) return {};
    return run_failed(request_.output, "the disk is full: " + format_bytes(summary_.written) +
                                           " needed, " + format_bytes(*free) + " free, " +
                                           format_bytes(summary_.written - *free) + " missing");
  }

  Result<void> write_shard(const OutputShard& shard) {
    const std::string path = join_path(request_.output, shard.name);
    if (auto made = make_folder(folder_of(path)); !made) return made;
    auto writer = SafetensorsWriter::create(path, shard.specs, shard.metadata);
    if (!writer) return writer.error();
    for (const TensorView& tensor : shard.source->tensors()) {
      if (auto written = write_tensor(tensor, *writer); !written) return written;
      tensor.release();
      done_ += Bytes{static_cast<std::int64_t>(tensor.bytes.size())};
      if (progress_) progress_({done_, total_, path});
    }
    return writer->finish();
  }

  Result<void> write_tensor(const TensorView& tensor, SafetensorsWriter& writer) {
    const auto target = targets_.find(&tensor);
    const auto replaced = replaced_.find(&tensor);
    const bool copied = target == targets_.end() && replaced == replaced_.end();
    ++(copied ? summary_.copied : summary_.merged);
    if (copied) return writer.write(tensor.name, tensor.bytes);
    if (target != targets_.end()) {
      if (replaced != replaced_.end() && !same_values(tensor, *replaced->second)) {
        return bad_input(request_.adapter, "was saved with another " + tensor.name +
                                               " than the base has: merging it is not built yet, "
                                               "merge it with PEFT");
      }
      return write_merged(tensor, *target->second, writer);
    }
    return write_replaced(tensor, *replaced->second, writer);
  }

  // In blocks, in the element type of the base.
  Result<void> write_replaced(const TensorView& tensor, const TensorView& values,
                              SafetensorsWriter& writer) {
    const DType from = *values.dtype();
    const DType to = *tensor.dtype();
    const auto width = static_cast<std::size_t>(size_of(from).value);
    const std::size_t block = static_cast<std::size_t>(kBlock.value) / width;
    const std::size_t count = values.bytes.size() / width;
    std::vector<float> wide(std::min(block, count));
    std::vector<std::byte> narrow(wide.size() * static_cast<std::size_t>(size_of(to).value));
    std::int64_t not_finite = 0;
    for (std::size_t i = 0; i < count; i += block) {
      const std::size_t size = std::min(block, count - i);
      const std::span<float> part = std::span(wide).first(size);
      const std::span<std::byte> out =
          std::span(narrow).first(size * static_cast<std::size_t>(size_of(to).value));
      to_f32(values.bytes.subspan(i * width, size * width), from, part);
      not_finite += count_not_finite(part, to);
      from_f32(part, to, out);
      if (auto written = writer.write(tensor.name, out); !written) return written;
    }
    values.release();
    return check_finite(not_finite, tensor);
  }

  Result<void> check_finite(std::int64_t not_finite, const TensorView& tensor) const {
    if (not_finite == 0) return {};
    return bad_input(request_.adapter,
                     "merged into " + tensor.name + " it makes " + std::to_string(not_finite) +
                         " values that are not finite as " + to_text(*tensor.dtype()));
  }

  Result<void> write_merged(const TensorView& tensor, const AdapterModule& module,
                            SafetensorsWriter& writer) {
    const DType dtype = *tensor.dtype();
    const Shape shape = *tensor.shape();
    std::vector<float> a = values_of(*module.a);
    std::vector<float> b = values_of(*module.b);
    // The table of an embedding has a row for each input.
    const bool embedding = module.a->name.ends_with(".lora_embedding_A");
    if (embedding) {
      const auto rank = static_cast<std::size_t>(module.linear.rank);
      std::vector<float> rows = transposed(a, rank);
      a = transposed(b, b.size() / rank);
      b = std::move(rows);
    }
    const LoraProduct product{
        .a = a,
        .b = b,
        .rank = static_cast<std::size_t>(module.linear.rank),
        .width = static_cast<std::size_t>(shape[1]),
        .scale = static_cast<float>(module.linear.scaling(adapter_.config().rslora))};
    const auto row_bytes = static_cast<std::size_t>((shape[1] * size_of(dtype)).value);
    const auto rows = static_cast<std::size_t>(shape[0]);
    const std::size_t rows_per_thread =
        std::max<std::size_t>(1, static_cast<std::size_t>(kBlock.value) / row_bytes);
    const std::size_t block =
        rows_per_thread * static_cast<std::size_t>(std::max(1, request_.threads));
    std::vector<std::byte> merged(std::min(block, rows) * row_bytes);
    std::int64_t not_finite = 0;
    for (std::size_t row = 0; row < rows; row += block) {
      const std::size_t count = std::min(block, rows - row);
      const std::span<std::byte> out = std::span(merged).first(count * row_bytes);
      const auto in = tensor.bytes.subspan(row * row_bytes, count * row_bytes);
      not_finite += merge_block(product, dtype, row, in, out);
      if (auto written = writer.write(tensor.name, out); !written) return written;
    }
    return check_finite(not_finite, tensor);
  }

  // Rows [first_row, ...) of a weight, cut into equal parts for the threads; returns how many
  // values are not finite.
  std::int64_t merge_block(const LoraProduct& product, DType dtype, std::size_t first_row,
                           std::span<const std::byte> in, std::span<std::byte> out) const {
    const std::size_t row_bytes = product.width * static_cast<std::size_t>(size_of(dtype).value);
    const std::size_t rows = in.size() / row_bytes;
    const auto threads = static_cast<std::size_t>(std::max(1, request_.threads));
    const std::size_t part = (rows + threads - 1) / threads;
    std::atomic<std::int64_t> not_finite = 0;
    const auto merge_rows = [&](std::size_t begin, std::size_t end) {
      std::vector<float> buffer(kRowsAtOnce * product.width);
      for (std::size_t i = begin; i < end; i += kRowsAtOnce) {
        const std::size_t count = std::min(kRowsAtOnce, end - i);
        const std::span<float> values = std::span(buffer).first(count * product.width);
        to_f32(in.subspan(i * row_bytes, count * row_bytes), dtype, values);
        add_product(product, first_row + i, values);
        not_finite += count_not_finite(values, dtype);
        from_f32(values, dtype, out.subspan(i * row_bytes, count * row_bytes));
      }
    };
    std::vector<std::jthread> helpers;
    for (std::size_t begin = part; begin < rows; begin += part) {
      helpers.emplace_back(merge_rows, begin, std::min(begin + part, rows));
    }
    merge_rows(0, std::min(part, rows));
    helpers.clear();
    return not_finite;
  }

  const MergeRequest& request_;
  const std::function<void(const MergeProgress&)>& progress_;
  Checkpoint base_;
  Adapter adapter_;
  std::unordered_map<const TensorView*, const AdapterModule*> targets_;
  std::unordered_map<const TensorView*, const TensorView*> replaced_;  // by the adapter's
  MergeSummary summary_;
  Bytes done_;
  Bytes total_;
};

// A finished model, or an adapter that would then be applied on top of what it is merged into, must
// not be there.
Result<void> check_output(const std::string& folder) {
  for (const char* name : {kConfigFile, kAdapterConfigFile}) {
    if (!is_file(join_path(folder, name))) continue;
    return bad_input(folder, std::string("is taken: it holds a ") + name + "; name a new folder");
  }
  return make_folder(folder);
}

}  // namespace

Result<MergeSummary> merge_adapter(const MergeRequest& request,
                                   const std::function<void(const MergeProgress&)>& progress) {
  const std::string config_path = join_path(request.base, kConfigFile);
  const auto text = read_text_file(config_path);
  if (!text) return text.error();
  const auto model = read_config(*text, config_path);
  if (!model) return model.error();
  auto base = Checkpoint::open(request.base);
  if (!base) return base.error();
  if (auto fits = check_weights(*base, make_blueprint(*model), *model); !fits) return fits.error();
  auto adapter = Adapter::open(request.adapter, *model);
  if (!adapter) return adapter.error();
  const int first_edge = embedding_index(model->family);
  for (const AdapterModule& module : adapter->modules()) {
    if (!model->tied_embeddings || module.linear.linear < first_edge) continue;
    return bad_input(
        request.adapter,
        "adapts " + adapted_names(model->family)[static_cast<std::size_t>(module.linear.linear)] +
            ", but the embedding and the head of this base are one tensor: merged, it "
            "would change both; use the adapter beside its base");
  }
  if (auto free = check_output(request.output); !free) return free.error();
  return Merger(request, progress, *std::move(base), *std::move(adapter)).run(*model);
}

}  // namespace ftplan::models

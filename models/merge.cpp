#include "models/merge.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/enums.h"
#include "core/job.h"
#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/text.h"
#include "core/units.h"
#include "models/adapter.h"
#include "models/adapter_config.h"
#include "models/checkpoint.h"
#include "models/config_reader.h"
#include "models/convert.h"
#include "models/family.h"
#include "models/files.h"
#include "models/folder_text.h"
#include "models/linear_rows.h"
#include "models/linear_writer.h"
#include "models/output_file.h"
#include "models/safetensors.h"
#include "models/safetensors_header.h"
#include "models/safetensors_writer.h"
#include "models/shards.h"
#include "models/stored_linear.h"

namespace ftplan::models {
namespace {

// Bytes of a tensor that are copied at a time.
constexpr std::size_t kPiece = std::size_t{8} << 20;

// A linear of the base, found by the tensor that carries its name.
struct Linear {
  Weight weight;
  const AdapterModule* module = nullptr;
};

// A tensor of the base and what takes its place.
struct Step {
  const TensorView* tensor = nullptr;
  const Linear* linear = nullptr;  // null for what is no linear of a layer
  const AdapterModule* module = nullptr;
  const TensorView* replaced = nullptr;  // by what the adapter has trained in full
  bool copied = true;
  DType dtype = DType::kF32;  // of floats
  std::vector<TensorSpec> specs;
};

// A file of the base and what takes its place.
struct OutputShard {
  std::string name;  // relative to both folders
  std::vector<Step> steps;
  Metadata metadata;

  [[nodiscard]] std::vector<TensorSpec> specs() const {
    std::vector<TensorSpec> all;
    for (const Step& step : steps) all.insert(all.end(), step.specs.begin(), step.specs.end());
    return all;
  }
};

struct TextFile {
  std::string name;
  std::string text;
};

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
         Checkpoint base, std::optional<Adapter> adapter, ModelConfig model, std::string config)
      : request_(request),
        progress_(progress),
        base_(std::move(base)),
        adapter_(std::move(adapter)),
        model_(std::move(model)),
        config_(std::move(config)) {}

  Result<MergeSummary> run() {
    summary_.base = model_.stored_linears;
    for (const std::string& name : linear_names(model_.family))
      summary_.roundings.push_back({name, {}});
    find_linears();
    if (auto planned = plan_shards_of_base(); !planned) return planned.error();
    if (auto texts = plan_texts(); !texts) return texts.error();
    if (auto fits = check_space(); !fits) return fits.error();
    for (const OutputShard& shard : shards_) {
      if (auto written = write_shard(shard); !written) return written.error();
    }
    for (const TextFile& file : texts_) {
      const std::string path = join_path(request_.output, file.name);
      if (auto written = write_text_file(path, file.text); !written) return written.error();
    }
    return summary_;
  }

 private:
  void find_linears() {
    const Blueprint blueprint = make_blueprint(model_);
    for (std::int64_t layer = 0; layer < model_.layers; ++layer) {
      for (Weight weight : blueprint.layer) {
        if (weight.kind != WeightKind::kMatrix) continue;
        weight.name = layer_weight_name(blueprint, weight, layer);
        const std::vector<std::string> names = stored_names(weight.name, model_.stored_linears);
        const TensorView* tensor = base_.find(weight.name);
        linears_[tensor] = {weight, module_of(weight, layer)};
        for (std::size_t i = 1; i < names.size(); ++i) beside_[base_.find(names[i])] = tensor;
      }
    }
    if (adapter_) find_rest(blueprint, *adapter_);
  }

  // What the adapter has for embedding and head, and in place of weights.
  void find_rest(const Blueprint& blueprint, const Adapter& adapter) {
    for (const AdapterModule& module : adapter.modules()) {
      if (module.linear.linear == embedding_index(model_.family))
        edges_[base_.find(blueprint.embedding.name)] = &module;
      if (module.linear.linear == head_index(model_.family))
        edges_[base_.find(blueprint.head.name)] = &module;
    }
    for (const AdapterWeight& weight : adapter.weights()) {
      replaced_[base_.find(weight.name)] = weight.values;
      // Some checkpoints hold a tied head, too.
      const bool tied = model_.tied_embeddings && weight.name == blueprint.embedding.name;
      if (tied && base_.find(kUntiedHead) != nullptr)
        replaced_[base_.find(kUntiedHead)] = weight.values;
    }
  }

  // Completes a step of what is no linear of a layer.
  Result<void> plan_rest(Step& step) const {
    const auto edge = edges_.find(step.tensor);
    if (edge != edges_.end()) step.module = edge->second;
    const auto replaced = replaced_.find(step.tensor);
    if (replaced == replaced_.end()) return {};
    if (step.module != nullptr) {
      if (same_values(*step.tensor, *replaced->second)) return {};
      return bad_input(request_.adapter, "was saved with another " + step.tensor->name +
                                             " than the base has: merging it is not built yet, "
                                             "merge it with PEFT");
    }
    step.replaced = replaced->second;
    // With more rows where new tokens were trained.
    const auto shape = step.replaced->shape();
    if (!shape) return shape.error();
    step.specs[0].shape = *shape;
    return {};
  }

  [[nodiscard]] const AdapterModule* module_of(const Weight& weight, std::int64_t layer) const {
    if (!adapter_) return nullptr;
    for (const AdapterModule& module : adapter_->modules()) {
      if (module.linear.layer == layer && module.linear.linear == weight.linear) return &module;
    }
    return nullptr;
  }

  // Whether training had other values than the base has.
  [[nodiscard]] bool trained_on_codes() const {
    return model_.stored_linears == StoredLinears::kPlain &&
           request_.trained != StoredLinears::kPlain;
  }

  // Of a base that has codes, whether those of a linear stay.
  [[nodiscard]] bool keeps_codes(const Linear& linear) const {
    return request_.into == model_.stored_linears && linear.module == nullptr;
  }

  Result<Step> plan_step(const TensorView& tensor) const {
    auto spec = spec_of(tensor);
    if (!spec) return spec.error();
    Step step{.tensor = &tensor, .specs = {*spec}};
    const auto found = linears_.find(&tensor);
    if (found == linears_.end()) {
      if (!is_float(spec->dtype)) return step;
      if (auto ok = plan_rest(step); !ok) return ok.error();
      step.dtype = request_.dtype.value_or(spec->dtype);
      step.copied = step.dtype == spec->dtype && step.module == nullptr && step.replaced == nullptr;
      step.specs[0].dtype = step.dtype;
      return step;
    }
    step.linear = &found->second;
    step.module = step.linear->module;
    const bool plain = model_.stored_linears == StoredLinears::kPlain;
    const DType stored = plain ? spec->dtype : model_.stored;
    step.dtype = request_.dtype.value_or(stored);
    step.copied = plain ? request_.into == StoredLinears::kPlain && step.dtype == stored &&
                              step.linear->module == nullptr && !trained_on_codes()
                        : keeps_codes(*step.linear);
    if (!step.copied)
      step.specs =
          specs_of_linear(tensor.name, step.linear->weight.shape, step.dtype, request_.into);
    return step;
  }

  Result<void> plan_shards_of_base() {
    for (const SafetensorsFile& file : base_.files()) {
      OutputShard shard{.metadata = file.metadata()};
      shard.name = std::filesystem::path(file.path()).lexically_relative(base_.folder()).string();
      for (const TensorView& tensor : file.tensors()) {
        const auto beside = beside_.find(&tensor);
        if (beside != beside_.end() && !keeps_codes(linears_.at(beside->second))) {
          same_tensors_ = false;
          continue;
        }
        auto step = plan_step(tensor);
        if (!step) return step.error();
        same_tensors_ = same_tensors_ && step->specs == std::vector{*spec_of(tensor)};
        shard.steps.push_back(*std::move(step));
      }
      const bool has_format =
          std::any_of(shard.metadata.begin(), shard.metadata.end(),
                      [](const auto& entry) { return entry.first == "format"; });
      if (!has_format) shard.metadata.emplace_back("format", "pt");
      shards_.push_back(std::move(shard));
    }
    return {};
  }

  [[nodiscard]] std::string index_text() const {
    ShardPlan plan;
    for (const OutputShard& shard : shards_) {
      plan.shards.push_back({shard.name, shard.specs()});
      for (const TensorSpec& spec : plan.shards.back().specs)
        plan.parameters += spec.shape.elements();
    }
    return render_index(plan);
  }

  // The configuration comes last.
  Result<void> plan_texts() {
    std::vector<std::string> copied = companions(base_.folder());
    // A tokenizer with new tokens lies beside the adapter that was trained on them.
    std::set<std::string> brought;
    if (adapter_) brought = tokenizer_files(request_.adapter);
    if (base_.sharded() && same_tensors_) copied.emplace_back(kIndexFile);
    for (const std::string& name : copied) {
      if (brought.contains(name)) continue;
      auto text = read_text_file(join_path(base_.folder(), name));
      if (!text) return text.error();
      texts_.push_back({name, *std::move(text)});
    }
    for (const std::string& name : brought) {
      auto text = read_text_file(join_path(request_.adapter, name));
      if (!text) return text.error();
      texts_.push_back({name, *std::move(text)});
    }
    if (base_.sharded() && !same_tensors_) texts_.push_back({kIndexFile, index_text()});
    if (request_.into == model_.stored_linears && !request_.dtype) {
      texts_.push_back({kConfigFile, config_});
      return {};
    }
    auto config = parse_json(config_, join_path(base_.folder(), kConfigFile));
    if (!config) return config.error();
    const DType compute = request_.dtype.value_or(model_.stored);
    texts_.push_back(
        {kConfigFile, render_config(*std::move(config), request_.into, request_.dtype, compute)});
    return {};
  }

  Result<void> check_space() {
    for (const OutputShard& shard : shards_) {
      const std::vector<TensorSpec> specs = shard.specs();
      summary_.written += file_size(specs, shard.metadata);
      for (const TensorSpec& spec : specs) total_ += spec.bytes();
    }
    for (const TextFile& file : texts_)
      summary_.written += Bytes{static_cast<std::int64_t>(file.text.size())};
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
    auto writer = SafetensorsWriter::create(path, shard.specs(), shard.metadata);
    if (!writer) return writer.error();
    for (const Step& step : shard.steps) {
      if (auto written = write_step(step, *writer); !written) return written;
      for (const TensorSpec& spec : step.specs) done_ += spec.bytes();
      if (progress_) progress_({done_, total_, path});
    }
    return writer->finish();
  }

  Result<void> write_step(const Step& step, SafetensorsWriter& writer) {
    if (step.copied) {
      summary_.copied += beside_.contains(step.tensor) ? 0 : 1;
      return copy(*step.tensor, writer);
    }
    ++(changed(step) ? summary_.merged : summary_.converted);
    auto rows = rows_of(step);
    if (!rows) return rows.error();
    const StoredLinears into = step.linear == nullptr ? StoredLinears::kPlain : request_.into;
    const auto rounding =
        write_linear(step.tensor->name, *rows, step.dtype, into, request_.threads, writer);
    if (!rounding) return rounding.error();
    if (rounding->not_finite > 0) return not_finite(step, into, rounding->not_finite);
    if (step.linear != nullptr) {
      const auto linear = static_cast<std::size_t>(step.linear->weight.linear);
      summary_.roundings[linear].rounding.add(*rounding);
    }
    return {};
  }

  static Result<void> copy(const TensorView& tensor, SafetensorsWriter& writer) {
    for (std::size_t begin = 0; begin < tensor.bytes.size(); begin += kPiece) {
      const auto piece = tensor.bytes.subspan(begin, std::min(kPiece, tensor.bytes.size() - begin));
      if (auto written = writer.write(tensor.name, piece); !written) return written;
      tensor.file->release(piece);
    }
    return {};
  }

  static bool changed(const Step& step) {
    return step.module != nullptr || step.replaced != nullptr;
  }

  [[nodiscard]] LinearRows with(const AdapterModule& module, const LinearRows& rows) const {
    std::vector<float> a = values_of(*module.a);
    std::vector<float> b = values_of(*module.b);
    const auto rank = static_cast<std::size_t>(module.linear.rank);
    // The table of an embedding has a row for each input.
    if (module.linear.linear == embedding_index(model_.family)) {
      std::vector<float> by_row = transposed(a, rank);
      a = transposed(b, b.size() / rank);
      b = std::move(by_row);
    }
    return rows.plus(std::move(a), std::move(b), rank,
                     static_cast<float>(module.linear.scaling(adapter_->config().rslora)));
  }

  // The values that are meant.
  Result<LinearRows> rows_of(const Step& step) const {
    if (step.linear == nullptr) {
      const LinearRows rows =
          LinearRows::of_floats(step.replaced != nullptr ? *step.replaced : *step.tensor);
      return step.module == nullptr ? rows : with(*step.module, rows);
    }
    auto rows = LinearRows::of_linear(base_, step.linear->weight, model_.stored_linears);
    if (!rows) return rows;
    const AdapterModule* module = step.module;
    // Without an adapter on it, the codes of its values are those that training had.
    const bool codes = module == nullptr && request_.into == request_.trained;
    if (trained_on_codes() && !codes) rows = rows->quantized(request_.trained, request_.threads);
    if (module == nullptr) return rows;
    return with(*module, *rows);
  }

  [[nodiscard]] Error not_finite(const Step& step, StoredLinears into, std::int64_t count) const {
    const std::string as = into == StoredLinears::kPlain ? to_text(step.dtype) : to_text(into);
    const std::string values = std::to_string(count) + " values that are not finite as " + as;
    return changed(step)
               ? bad_input(request_.adapter,
                           "merged into " + step.tensor->name + " it makes " + values)
               : bad_input(step.tensor->file->path(), step.tensor->name + " has " + values);
  }

  const MergeRequest& request_;
  const std::function<void(const MergeProgress&)>& progress_;
  Checkpoint base_;
  std::optional<Adapter> adapter_;
  ModelConfig model_;
  std::string config_;  // its text
  std::unordered_map<const TensorView*, Linear> linears_;
  std::unordered_map<const TensorView*, const TensorView*> beside_;    // which codes
  std::unordered_map<const TensorView*, const AdapterModule*> edges_;  // embedding and head
  std::unordered_map<const TensorView*, const TensorView*> replaced_;  // by the adapter's
  std::vector<OutputShard> shards_;
  std::vector<TextFile> texts_;
  bool same_tensors_ = true;  // names, types and shapes of the base
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

Result<void> check_tied(const MergeRequest& request, const Adapter& adapter,
                        const ModelConfig& model) {
  const int first_edge = embedding_index(model.family);
  for (const AdapterModule& module : adapter.modules()) {
    if (!model.tied_embeddings || module.linear.linear < first_edge) continue;
    return bad_input(
        request.adapter,
        "adapts " + adapted_names(model.family)[static_cast<std::size_t>(module.linear.linear)] +
            ", but the embedding and the head of this base are one tensor: merged, it "
            "would change both; use the adapter beside its base");
  }
  return {};
}

}  // namespace

Result<MergeSummary> merge_adapter(const MergeRequest& request,
                                   const std::function<void(const MergeProgress&)>& progress) {
  const std::string config_path = join_path(request.base, kConfigFile);
  auto text = read_text_file(config_path);
  if (!text) return text.error();
  auto model = read_config(*text, config_path);
  if (!model) return model.error();
  if (request.into != StoredLinears::kPlain && model->family == Family::kFalcon) {
    return bad_input(request.base,
                     "transformers' bitsandbytes leaves the linears of Falcon as they are, so that "
                     "nothing could read them as codes: write 16 or 32 bits");
  }
  auto base = Checkpoint::open(request.base);
  if (!base) return base.error();
  if (auto fits = check_weights(*base, *model); !fits) return fits.error();
  if (!request.adapter.empty()) {
    const ModelConfig grown = with_vocabulary(*model, adapted_vocabulary(request.adapter, *model));
    if (grown.vocabulary > model->vocabulary) {
      text = config_with_vocabulary(*text, config_path, grown.vocabulary);
      if (!text) return text.error();
    }
    *model = grown;
  }
  std::optional<Adapter> adapter;
  if (!request.adapter.empty()) {
    auto opened = Adapter::open(request.adapter, *model);
    if (!opened) return opened.error();
    adapter = *std::move(opened);
    if (auto ok = check_tied(request, *adapter, *model); !ok) return ok.error();
  }
  if (auto free = check_output(request.output); !free) return free.error();
  return Merger(request, progress, *std::move(base), std::move(adapter), *std::move(model),
                *std::move(text))
      .run();
}

}  // namespace ftplan::models

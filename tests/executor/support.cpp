#include "tests/executor/support.h"

#include <gtest/gtest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/data_options.h"
#include "core/dtype.h"
#include "core/enums.h"
#include "core/job.h"
#include "core/json.h"
#include "core/machine.h"
#include "core/method.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/strategy.h"
#include "core/units.h"
#include "data/data_set.h"
#include "executor/arena.h"
#include "executor/call.h"
#include "executor/communicator.h"
#include "executor/feeding.h"
#include "executor/kernels.h"
#include "executor/loader.h"
#include "executor/rank_run.h"
#include "executor/torch_runtime.h"
#include "models/convert.h"
#include "models/family.h"
#include "models/load.h"
#include "models/safetensors_writer.h"

namespace ftplan::executor {
namespace {

constexpr std::int64_t kVocabulary = 53;

void write(const std::string& path, const Json& json) {
  std::ofstream file(path);
  file << json.dump();
}

Json config_of(const Setting& setting) {
  Json config = Json::object();
  config["model_type"] = "llama";
  config["architectures"] = Json::array({"LlamaForCausalLM"});
  config["vocab_size"] = kVocabulary;
  config["hidden_size"] = setting.hidden;
  config["intermediate_size"] = 40;
  config["num_hidden_layers"] = setting.layers;
  config["num_attention_heads"] = 4;
  config["num_key_value_heads"] = 2;
  config["head_dim"] = 8;
  config["max_position_embeddings"] = 64;
  config["tie_word_embeddings"] = setting.tied;
  return config;
}

// Rows of different lengths; every fifth token is not learned.
void write_tokens(const std::string& path, const Setting& setting) {
  std::mt19937 random(11);
  Json ids = Json::array();
  Json labels = Json::array();
  for (std::int64_t row = 0; row < setting.rows; ++row) {
    Json row_ids = Json::array();
    Json row_labels = Json::array();
    const std::int64_t length = std::max<std::int64_t>(2, setting.longest - row % 4 * 3);
    for (std::int64_t i = 0; i < length; ++i) {
      const auto id = static_cast<std::int64_t>(random() % kVocabulary);
      row_ids.push_back(id);
      row_labels.push_back(i % 5 == 4 ? -100 : id);
    }
    ids.push_back(std::move(row_ids));
    labels.push_back(std::move(row_labels));
  }
  write(path, Json{{"input_ids", std::move(ids)}, {"labels", std::move(labels)}});
}

JobRequest request_of(const Setting& setting, const Strategy& strategy, const std::string& data) {
  JobRequest request;
  request.model = "tiny";
  request.devices.gpus = setting.ranks == 1 ? "cpu" : std::to_string(setting.ranks) + "xcpu";
  request.method.method = setting.method;
  request.method.precision = setting.precision;
  request.method.optimizer = setting.optimizer;
  request.training.momentum = setting.momentum;
  request.method.double_quantization = setting.double_quantization;
  request.method.rank = 3;
  request.method.alpha = 6;
  request.method.dropout = setting.dropout;
  request.data.data = {data};
  request.data.format = DataFormat::kTokens;
  request.data.seq = 64;
  request.data.pad_multiple = 8;
  request.data.validation = setting.validation;
  request.data.shuffle = false;
  request.training.learning_rate = setting.learning_rate;
  request.training.loss_scale = setting.loss_scale;
  request.training.clip = setting.clip;
  request.training.update_in_backward = setting.update_in_backward;
  request.training.weight_decay = 0.01;
  request.training.micro_batch = strategy.micro_batch;
  request.training.accumulation = strategy.accumulation;
  request.layout = {.zero = strategy.zero,
                    .checkpointing = strategy.checkpointing,
                    .loss_chunk = strategy.loss_chunk};
  if (!strategy.stage_layers.empty()) request.layout.pipeline = Pipeline::kNaive;
  return request;
}

struct Made {
  data::DataSet data;
  Job job;
};

Made make(const TempFolder& folder, const Setting& setting, const Strategy& strategy) {
  write(folder / "config.json", config_of(setting));
  const auto model = need(models::load_model_config(folder / "config.json", {}));
  write_weights(folder / "model.safetensors", model.config, dtype_of(setting.precision));
  write_tokens(folder / "tokens.json", setting);
  const JobRequest request = request_of(setting, strategy, folder / "tokens.json");
  data::DataContext context;
  context.positions = model.config.positions;
  context.vocabulary = model.config.vocabulary;
  auto data = need(data::load_data(request.data, context));
  auto job = need(validate(request, model.config, data.facts));
  return {std::move(data), std::move(job)};
}

std::string name_of(const program::WeightBinding& binding) {
  return binding.name + "." + std::to_string(binding.table_index);
}
std::string name_of(const program::AdapterBinding& binding) {
  return "adapter." + std::to_string(binding.linear) + (binding.b ? "b" : "a");
}

// Calls `f(name, view)` for each copy of each weight and adapter that the rank keeps whole.
template <class F>
void for_each_value(const RankRun& run, F f) {
  const auto& program = run.some_program();
  const auto each_copy = [&](const auto& binding, const std::string& name, const auto& view_of) {
    if (!binding.per_layer) return f(name, view_of(0));
    for (std::int32_t layer = 0; layer < program.layers; ++layer)
      f(name + "." + std::to_string(program.model_layer(layer)), view_of(layer));
  };
  const auto is_whole = [&](program::TensorId tensor) {
    return program.storage_of(tensor).region == program::Region::kPersistent;
  };
  for (const auto& binding : program.weights) {
    if (!is_whole(binding.tensor)) continue;
    each_copy(binding, name_of(binding),
              [&](std::int32_t layer) { return run.weight(binding, layer); });
  }
  for (const auto& binding : program.adapters) {
    if (!is_whole(binding.tensor)) continue;
    each_copy(binding, name_of(binding),
              [&](std::int32_t layer) { return run.adapter(binding, layer); });
  }
}

std::span<const std::byte> bytes_of(const View& view) {
  return {view.data, static_cast<std::size_t>(view.elements() * size_of(view.dtype()).value)};
}

std::vector<float> floats_of(const View& view) {
  std::vector<float> values(static_cast<std::size_t>(view.elements()));
  if (view.dtype() == DType::kU8) {  // packed values
    std::copy_n(view.as<std::uint8_t>(), values.size(), values.begin());
  } else if (view.dtype() == DType::kI8) {
    std::copy_n(view.as<std::int8_t>(), values.size(), values.begin());
  } else {
    models::to_f32(bytes_of(view), view.dtype(), values);
  }
  return values;
}

}  // namespace

void write_weights(const std::string& path, const ModelConfig& model, DType dtype) {
  std::vector<models::TensorSpec> specs;
  for (const auto& weight : models::all_weights(models::make_blueprint(model), model)) {
    specs.push_back({weight.name, dtype, weight.shape});
  }
  auto writer = need(models::SafetensorsWriter::create(path, specs));
  std::mt19937 random(7);
  for (const auto& spec : specs) {
    const bool is_norm = spec.name.find("norm") != std::string::npos;
    std::vector<float> values(static_cast<std::size_t>(spec.shape.elements()));
    for (float& value : values) {
      const float noise = static_cast<float>(random() % 2001) / 1000.0F - 1.0F;
      value = is_norm ? 1.0F + 0.1F * noise : 0.3F * noise;
    }
    std::vector<std::byte> bytes(static_cast<std::size_t>(spec.bytes().value));
    models::from_f32(values, dtype, bytes);
    need(writer.write(spec.name, bytes));
  }
  need(writer.finish());
}

void need(const Result<void>& result) {
  if (!result) check_failed(result.error().text().c_str(), __FILE__, __LINE__);
}

std::ostream& operator<<(std::ostream& out, const Setting& setting) {
  return out << to_text(setting.method) << " " << to_text(setting.precision) << " "
             << to_text(setting.optimizer) << " ranks " << setting.ranks << " ZeRO-" << setting.zero
             << " accumulation " << setting.accumulation << " threads " << setting.threads
             << " checkpointing " << to_text(setting.checkpointing);
}

TempFolder::TempFolder() {
  path_ = (std::filesystem::temp_directory_path() / "ftplan-executor-XXXXXX").string();
  FTPLAN_CHECK(::mkdtemp(path_.data()) != nullptr);
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

World::World(Setting wanted)
    : setting(std::move(wanted)),
      strategy{.micro_batch = setting.micro_batch,
               .accumulation = setting.accumulation,
               .checkpointing = setting.checkpointing,
               .zero = setting.ranks > 1 && setting.stage_layers.empty() ? setting.zero : 0,
               .loss_chunk = setting.loss_chunk,
               .stage_layers = setting.stage_layers,
               .prefetch = setting.prefetch,
               .persist_below = setting.persist_below},
      machine{.threads = setting.threads,
              .instruction_set = best_instruction_set(),
              .torch = torch_version(),
              .scratch = setting.scratch} {
  Made made = make(folder, setting, strategy);
  data = std::move(made.data);
  job = std::move(made.job);
  loader = std::make_unique<Loader>(need(Loader::open(job, folder.path(), "")));
}

std::unique_ptr<RankRun> World::create(std::int64_t rank, Communicator* communicator) const {
  return need(RankRun::create({job, strategy, machine, rank, data.facts, communicator}));
}

std::unique_ptr<RankRun> World::load(std::int64_t rank, Communicator* communicator) const {
  auto run = create(rank, communicator);
  need(run->load(*loader));
  return run;
}

StepInput World::input(std::int64_t step, const StepRows& rows) const {
  return {.step = step, .learning_rate = job.learning_rate, .target_tokens = rows.target_tokens};
}

StepOutput World::train(RankRun& run, std::int64_t step) const {
  const Feeder from = feeder(run.setup().rank);
  const StepRows rows = from.rows_of_step(step);
  return need(run.train(rows.length, input(step, rows), from.fill(rows)));
}

std::map<std::string, std::vector<float>> values_of(const RankRun& run) {
  std::map<std::string, std::vector<float>> all;
  for_each_value(run, [&](const std::string& name, const View& view) {
    FTPLAN_CHECK(all.emplace(name, floats_of(view)).second);
  });
  return all;
}

std::map<std::string, std::vector<float>> gathered_values(RankRun& run) {
  std::map<std::string, std::vector<float>> all;
  need(run.save([&](const StoredValues& stored) -> Result<void> {
    const bool per_layer =
        stored.weight != nullptr ? stored.weight->per_layer : stored.adapter->per_layer;
    std::string name =
        stored.weight != nullptr ? name_of(*stored.weight) : name_of(*stored.adapter);
    if (per_layer) name += "." + std::to_string(stored.layer);
    FTPLAN_CHECK(all.emplace(name, floats_of(stored.values)).second);
    return {};
  }));
  return all;
}

std::vector<std::byte> bits_of(const RankRun& run) {
  std::vector<std::byte> bits;
  const auto append = [&](std::span<const std::byte> bytes) {
    bits.insert(bits.end(), bytes.begin(), bytes.end());
  };
  for_each_value(run, [&](const std::string&, const View& view) { append(bytes_of(view)); });
  for (const auto& tensor : run.state_tensors()) append(run.state(tensor));
  return bits;
}

Trained train_ranks(const World& world, std::int64_t steps) {
  InProcessGroup group(static_cast<int>(world.job.ranks()));
  return train_ranks(world, steps, [&](std::int64_t rank) {
    return std::make_unique<InProcessCommunicator>(group, static_cast<int>(rank));
  });
}

Trained train_ranks(const World& world, std::int64_t steps, const Connect& connect) {
  const auto ranks = static_cast<std::size_t>(world.job.ranks());
  std::vector<std::vector<StepOutput>> outputs(ranks);
  std::vector<std::unique_ptr<RankRun>> runs(ranks);
  std::vector<std::map<std::string, std::vector<float>>> values(ranks);
  std::vector<std::vector<std::byte>> bits(ranks);
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      const auto communicator = connect(static_cast<std::int64_t>(rank));
      runs[rank] = world.load(static_cast<std::int64_t>(rank), communicator.get());
      for (std::int64_t step = 0; step < steps; ++step)
        outputs[rank].push_back(world.train(*runs[rank], step));
      bits[rank] = bits_of(*runs[rank]);
      values[rank] = ranks > 1 && world.strategy.zero == 3 ? gathered_values(*runs[rank])
                                                           : values_of(*runs[rank]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  Trained trained{.values = values[0]};
  if (world.job.stages() > 1) {
    for (const auto& own : values) trained.values.insert(own.begin(), own.end());
  }
  for (std::size_t step = 0; step < static_cast<std::size_t>(steps); ++step) {
    double loss = 0;
    for (const auto& of_rank : outputs) loss += of_rank[step].loss;
    trained.losses.push_back(loss);
    trained.norms.push_back(outputs[0][step].gradient_norm);
  }
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const auto& own = values[rank];
    trained.ranks_agree =
        trained.ranks_agree && std::all_of(own.begin(), own.end(), [&](const auto& value) {
          return trained.values.at(value.first) == value.second;
        });
    trained.bits.insert(trained.bits.end(), bits[rank].begin(), bits[rank].end());
  }
  return trained;
}

double largest_difference(const std::map<std::string, std::vector<float>>& a,
                          const std::map<std::string, std::vector<float>>& b) {
  FTPLAN_CHECK(a.size() == b.size());
  double largest = 0;
  for (const auto& [name, values] : a) {
    const auto& others = b.at(name);
    FTPLAN_CHECK(others.size() == values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double difference = std::abs(static_cast<double>(values[i]) - others[i]);
      if (!(difference <= largest)) largest = difference;  // keeps a NaN
    }
  }
  return largest;
}

void poison(const Arena& arena, std::byte pattern, Bytes begin) {
  const auto bytes = arena.bytes().subspan(static_cast<std::size_t>(begin.value));
  if (!bytes.empty()) std::memset(bytes.data(), static_cast<int>(pattern), bytes.size());
}

}  // namespace ftplan::executor

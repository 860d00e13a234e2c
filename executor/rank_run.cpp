#include "executor/rank_run.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/check.h"
#include "core/dtype.h"
#include "core/result.h"
#include "core/run_result.h"
#include "core/training.h"
#include "core/units.h"
#include "executor/arena.h"
#include "executor/call.h"
#include "executor/loader.h"
#include "executor/session.h"
#include "executor/torch_runtime.h"
#include "executor/trace.h"
#include "models/convert.h"
#include "program/attributes.h"
#include "program/lower.h"
#include "program/lowering.h"
#include "program/run_files.h"
#include "program/run_programs.h"
#include "program/step_program.h"

namespace ftplan::executor {
namespace {

using program::ProgramKind;
using program::Scalar;

}  // namespace

Result<std::unique_ptr<RankRun>> RankRun::create(RankSetup setup) {
  std::unique_ptr<RankRun> run(new RankRun(std::move(setup)));
  const RankSetup& s = run->setup_;
  std::array<Bytes, kPlaces> size{};
  const auto requests =
      s.programs.empty() ? program::run_programs(s.job, s.strategy, s.rank, s.facts) : s.programs;
  for (const auto& request : requests) {
    auto program = program::lower(s.job, s.strategy, s.machine, request);
    if (!program) return program.error();
    for (std::size_t p = 0; p < kPlaces; ++p) size[p] = std::max(size[p], program->arena[p]);
    auto entry = std::make_unique<Entry>();
    entry->program = std::move(*program);
    run->entries_.emplace(Key{request.kind, request.sequence}, std::move(entry));
  }
  run->check_shared_state();
  auto device = Arena::map(size[static_cast<std::size_t>(Place::kDevice)]);
  if (!device) return device.error();
  auto host = Arena::map(size[static_cast<std::size_t>(Place::kHost)]);
  if (!host) return host.error();
  run->arenas_ = {std::move(*device), std::move(*host)};
  const auto trained = run->entries_.lower_bound({ProgramKind::kTrain, 0});
  if (trained != run->entries_.end() && trained->first.first == ProgramKind::kTrain) {
    run->states_ = program::checkpoint_tensors(trained->second->program, run->file_share());
  }
  run->options_ = {.threads = static_cast<int>(s.machine.threads), .communicator = s.communicator};
  run->loss_scale_ = program::first_loss_scale(s.job);
  install_allocator();
  return run;
}

// What one program leaves in place the next finds there. Generation has caches beyond what is
// loaded.
void RankRun::check_shared_state() const {
  const auto persistent = [](const program::StepProgram& program) {
    std::vector<program::Storage> storages;
    for (const program::Storage& storage : program.storages) {
      if (storage.region == program::Region::kPersistent) storages.push_back(storage);
    }
    return storages;
  };
  const auto first = persistent(entries_.begin()->second->program);
  for (const auto& [key, entry] : entries_) {
    const auto other = persistent(entry->program);
    FTPLAN_CHECK(other.size() >= first.size());
    for (std::size_t i = 0; i < first.size(); ++i) {
      FTPLAN_CHECK(other[i].size == first[i].size && other[i].offset == first[i].offset);
      FTPLAN_CHECK(other[i].stride == first[i].stride && other[i].place == first[i].place);
    }
  }
}

std::vector<RankRun::Key> RankRun::keys() const {
  std::vector<Key> keys;
  for (const auto& [key, entry] : entries_) keys.push_back(key);
  return keys;
}

Session& RankRun::session(Key key) {
  Entry& entry = *entries_.at(key);
  if (!entry.session) {
    entry.session =
        std::make_unique<Session>(entry.program, setup_.machine, arenas_, *this, options_);
  }
  return *entry.session;
}

Result<void> RankRun::run(Key key, Scalars& scalars) {
  Entry& entry = *entries_.at(key);
  Session& session = this->session(key);
  if (entry.measured) return session.run(scalars);
  Trace trace(entry.program, arenas_);
  if (auto ok = session.run(scalars, &trace); !ok) return ok.error();
  entry.measured = true;
  // Scratch regions belong to a program; which one is at its peak is judged without them.
  const auto keep_larger = [](PlaceBytes& kept, const PlaceBytes& found) {
    if (found.live() - found.scratch > kept.live() - kept.scratch) kept = found;
  };
  keep_larger(device_, trace.at_peak(Place::kDevice));
  keep_larger(host_, trace.at_peak(Place::kHost));
  return {};
}

RankBytes RankRun::measured() const {
  RankBytes bytes{.device = device_, .host = host_};
  const auto close = [](PlaceBytes& place, Bytes mapped) {
    place.peak = mapped;
    place.unused = mapped - place.live();
  };
  close(bytes.device, arenas_.device.size());
  close(bytes.host, arenas_.host.size());
  return bytes;
}

Result<void> RankRun::load(const Loader& loader) {
  loader_ = &loader;
  Scalars scalars{};
  auto ok = run({ProgramKind::kLoad, 0}, scalars);
  loader_ = nullptr;
  return ok;
}

Result<void> RankRun::save(const Store& store) {
  if (!entries_.contains({ProgramKind::kSave, 0})) return save_whole(store);
  // The other ranks need this one's parts whatever becomes of what they are for.
  Result<void> outcome;
  const Store until_error = [&](const StoredValues& stored) -> Result<void> {
    if (outcome.ok()) outcome = store(stored);
    return {};
  };
  store_ = &until_error;
  Scalars scalars{};
  auto ok = run({ProgramKind::kSave, 0}, scalars);
  store_ = nullptr;
  return ok ? outcome : ok;
}

Result<void> RankRun::save_whole(const Store& store) const {
  const program::StepProgram& program = some_program();
  for (const program::AdapterBinding& binding : program.adapters) {
    for (std::int32_t layer = 0; layer < (binding.per_layer ? program.layers : 1); ++layer) {
      if (binding.per_layer && !setup_.job.adapts_layer(program.model_layer(layer))) continue;
      const StoredValues half{.adapter = &binding,
                              .layer = program.model_layer(layer),
                              .values = adapter(binding, layer)};
      if (auto ok = store(half); !ok) return ok;
    }
  }
  for (const program::WeightBinding& binding : program.weights) {
    if (!setup_.job.trains(binding.name)) continue;
    for (std::int32_t layer = 0; layer < (binding.per_layer ? program.layers : 1); ++layer) {
      const StoredValues values{.weight = &binding,
                                .layer = program.model_layer(layer),
                                .values = weight(binding, layer)};
      if (auto ok = store(values); !ok) return ok;
    }
  }
  return {};
}

Scalars RankRun::scalars_of(const StepInput& input) const {
  const TrainingOptions& training = setup_.job.request.training;
  Scalars scalars{};
  const auto set = [&](Scalar scalar, double value) {
    scalars[static_cast<std::size_t>(scalar)] = value;
  };
  const auto count = static_cast<double>(input.step + 1 - skipped_steps());
  set(Scalar::kLearningRate, input.learning_rate);
  set(Scalar::kBiasCorrection1, 1 - std::pow(training.betas[0], count));
  set(Scalar::kBiasCorrection2, 1 - std::pow(training.betas[1], count));
  set(Scalar::kTargetTokens, static_cast<double>(input.target_tokens));
  set(Scalar::kLossScale, loss_scale_ ? loss_scale_->scale : 1);
  set(Scalar::kGradientsFinite, 1);
  set(Scalar::kStep, static_cast<double>(input.step));
  set(Scalar::kSeed, static_cast<double>(training.seed));
  return scalars;
}

Result<StepOutput> RankRun::train(std::int64_t length, const StepInput& input,
                                  const FillBatch& fill) {
  Scalars scalars = scalars_of(input);
  fill_ = &fill;
  auto ok = run({ProgramKind::kTrain, length}, scalars);
  fill_ = nullptr;
  if (!ok) return ok.error();
  const auto& interface = some_program().interface;
  const double sum = *view(interface.loss, 0).as<double>();
  const double scale = scalars[static_cast<std::size_t>(Scalar::kLossScale)];
  const StepOutput output{
      .loss = sum / static_cast<double>(input.target_tokens),
      .gradient_norm = std::sqrt(*view(interface.gradient_norm, 0).as<double>()) / scale,
      .finite = scalars[static_cast<std::size_t>(Scalar::kGradientsFinite)] != 0,
      .loss_scale = scale};
  // Another scale would not mend a forward that is not finite.
  if (loss_scale_ && std::isfinite(output.loss)) loss_scale_->update(output.finite);
  return output;
}

Result<double> RankRun::evaluate(std::int64_t length, const FillBatch& fill) {
  Scalars scalars{};
  fill_ = &fill;
  auto ok = run({ProgramKind::kEvaluate, length}, scalars);
  fill_ = nullptr;
  if (!ok) return ok.error();
  return *view(some_program().interface.loss, 0).as<double>();
}

Result<std::vector<std::int32_t>> RankRun::generate(Key key, const TokenInput& input,
                                                    const FillBatch& fill) {
  Scalars scalars{};
  const auto set = [&scalars](Scalar scalar, auto value) {
    scalars[static_cast<std::size_t>(scalar)] = static_cast<double>(value);
  };
  set(Scalar::kCacheLength, input.cache_length);
  set(Scalar::kStep, input.made);
  set(Scalar::kSeed, input.sampling.seed);
  set(Scalar::kTemperature, input.sampling.temperature);
  set(Scalar::kTopK, input.sampling.top_k);
  set(Scalar::kTopP, input.sampling.top_p);
  fill_ = &fill;
  auto ok = run(key, scalars);
  fill_ = nullptr;
  if (!ok) return ok.error();
  const program::StepProgram& generating = entries_.at(key)->program;
  const View next = view_of(generating, generating.interface.next_ids, 0);
  return std::vector<std::int32_t>(next.as<std::int32_t>(),
                                   next.as<std::int32_t>() + next.elements());
}

View RankRun::view(program::TensorId id, std::int32_t layer) const {
  return view_of(some_program(), id, layer);
}

View RankRun::view_of(const program::StepProgram& program, program::TensorId id,
                      std::int32_t layer) const {
  const program::Tensor& tensor = program.tensor(id);
  const program::Storage& storage = program.storage_of(id);
  const Bytes offset =
      storage.offset + storage.copies.index(layer) * storage.stride + tensor.offset;
  return {arenas_.of(storage.place).base() + offset.value, &tensor};
}

std::span<std::byte> RankRun::state(const program::StateTensor& tensor) const {
  const program::TrainedUnit& unit = some_program().units[static_cast<std::size_t>(tensor.unit)];
  const View bytes = view(program::tensor_of(unit, tensor.part), tensor.layer);
  const Bytes begin = tensor.first * size_of(bytes.dtype());
  return {bytes.data + begin.value, static_cast<std::size_t>(tensor.spec.bytes().value)};
}

program::FileShare RankRun::file_share() const {
  return program::file_share(setup_.job, setup_.strategy, setup_.rank);
}

void RankRun::restore_weights() {
  for (const program::TrainedUnit& unit : some_program().units) {
    if (unit.master == program::kNone) continue;
    for (std::int32_t layer = 0; layer < unit.layers; ++layer) {
      const View master = view(unit.master, layer);
      const View weights = view(unit.weights, layer);
      const Bytes size = master.elements() * size_of(weights.dtype());
      const bool whole = weights.elements() > master.elements();
      FTPLAN_CHECK(whole || weights.elements() == master.elements());
      std::byte* own = weights.data + (whole ? setup_.rank * size.value : 0);
      models::from_f32({master.as<float>(), static_cast<std::size_t>(master.elements())},
                       weights.dtype(), {own, static_cast<std::size_t>(size.value)});
    }
  }
}

std::vector<std::span<std::byte>> RankRun::assembled_weights() const {
  std::vector<std::span<std::byte>> all;
  if (file_share().parts == 1) return all;
  for (const program::TrainedUnit& unit : some_program().units) {
    for (std::int32_t layer = 0; layer < unit.layers; ++layer) {
      const View weights = view(unit.weights, layer);
      if (weights.elements() != unit.elements) continue;
      all.emplace_back(weights.data, static_cast<std::size_t>(
                                         (weights.elements() * size_of(weights.dtype())).value));
    }
  }
  return all;
}

View RankRun::adapter(const program::AdapterBinding& binding, std::int32_t layer) const {
  return view(binding.tensor, layer);
}
View RankRun::weight(const program::WeightBinding& binding, std::int32_t layer) const {
  return view(binding.tensor, layer);
}

Result<void> RankRun::load(const program::WeightBinding& weight, std::int32_t layer, const View& to,
                           std::int64_t begin) {
  FTPLAN_CHECK(loader_ != nullptr);
  return loader_->load(weight, layer, to, begin);
}

Result<void> RankRun::store(const Call& call) {
  FTPLAN_CHECK(store_ != nullptr);
  const auto& file = call.attributes<program::FileAttributes>();
  const auto index = static_cast<std::size_t>(file.binding);
  StoredValues stored{.values = call.in[0]};
  bool per_layer = false;
  if (file.adapter) {
    stored.adapter = &call.program.adapters[index];
    per_layer = stored.adapter->per_layer;
  } else {
    stored.weight = &call.program.weights[index];
    per_layer = stored.weight->per_layer;
  }
  stored.layer = per_layer ? call.model_layer() : 0;
  const bool adapted = !file.adapter || !per_layer || setup_.job.adapts_layer(stored.layer);
  if (!adapted) return {};
  return (*store_)(stored);
}

Result<void> RankRun::load_nf4(const program::WeightBinding& weight, std::int32_t layer,
                               const Call& call) {
  FTPLAN_CHECK(loader_ != nullptr);
  return loader_->load_nf4(weight, layer, call);
}

Result<void> RankRun::load_int8(const program::WeightBinding& weight, std::int32_t layer,
                                const Call& call) {
  FTPLAN_CHECK(loader_ != nullptr);
  return loader_->load_int8(weight, layer, call);
}

Result<void> RankRun::init_adapter(const program::AdapterBinding& adapter, std::int32_t layer,
                                   const View& to) {
  FTPLAN_CHECK(loader_ != nullptr);
  return loader_->init_adapter(adapter, layer, to);
}

Result<void> RankRun::batch(std::int32_t micro_step, const std::array<View, 8>& to) {
  FTPLAN_CHECK(fill_ != nullptr);
  (*fill_)(micro_step, to);
  return {};
}

}  // namespace ftplan::executor

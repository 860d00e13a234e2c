#include "executor/loader.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/dtype.h"
#include "core/job.h"
#include "core/result.h"
#include "executor/call.h"
#include "models/adapter.h"
#include "models/adapter_config.h"
#include "models/checkpoint.h"
#include "models/convert.h"
#include "models/family.h"
#include "models/safetensors.h"
#include "program/run_files.h"
#include "program/step_program.h"

namespace ftplan::executor {
namespace {

// Values between the file's type and the arena's, in pieces that stay in the cache.
void convert(const models::TensorView& from, DType type, const View& to) {
  const auto bytes_of = [](std::int64_t count, DType dtype) {
    return static_cast<std::size_t>(count * size_of(dtype).value);
  };
  const std::int64_t count = to.elements();
  if (type == to.dtype()) {
    std::memcpy(to.data, from.bytes.data(), from.bytes.size());
    return;
  }
  constexpr std::int64_t kPiece = 1 << 14;
#pragma omp parallel for schedule(static)
  for (std::int64_t begin = 0; begin < count; begin += kPiece) {
    float values[kPiece];
    const std::int64_t size = std::min(kPiece, count - begin);
    const std::span<float> piece(values, static_cast<std::size_t>(size));
    models::to_f32(from.bytes.subspan(bytes_of(begin, type), bytes_of(size, type)), type, piece);
    models::from_f32(piece, to.dtype(),
                     {to.data + bytes_of(begin, to.dtype()), bytes_of(size, to.dtype())});
  }
}

}  // namespace

Result<Loader> Loader::open(const Job& job, const std::string& model, const std::string& adapter) {
  auto checkpoint = models::Checkpoint::open(model);
  if (!checkpoint) return checkpoint.error();
  const models::Blueprint blueprint = models::make_blueprint(job.model);
  if (auto ok = models::check_weights(*checkpoint, blueprint, job.model); !ok) return ok.error();
  std::optional<models::Adapter> opened;
  if (!adapter.empty()) {
    auto from = models::Adapter::open(adapter, job.model);
    if (!from) return from.error();
    const models::AdapterConfig wanted = program::adapter_config_of(job);
    const models::AdapterConfig& found = from->config();
    if (found.rank != wanted.rank || std::abs(found.scaling() - wanted.scaling()) > 1e-12) {
      return bad_input(adapter, "has rank " + std::to_string(found.rank) + " and scaling " +
                                    std::to_string(found.scaling()) + ", but the plan has rank " +
                                    std::to_string(wanted.rank) + " and scaling " +
                                    std::to_string(wanted.scaling()) +
                                    ": plan again with --adapter");
    }
    std::size_t modules = 0;
    for (const bool is_adapted : job.adapted)
      modules += is_adapted ? static_cast<std::size_t>(job.model.layers) : 0;
    for (const models::AdapterModule& module : from->modules()) {
      if (job.adapted[static_cast<std::size_t>(module.linear.linear)]) continue;
      return bad_input(
          adapter,
          "adapts " +
              linear_names(job.model.family)[static_cast<std::size_t>(module.linear.linear)] +
              ", which the plan does not: plan again with --adapter");
    }
    if (from->modules().size() != modules) {
      return bad_input(adapter, "adapts fewer linears than the plan: plan again with --adapter");
    }
    opened = std::move(*from);
  }
  return Loader(job, *checkpoint, std::move(opened));
}

Result<void> Loader::load(const program::WeightBinding& weight, std::int32_t layer,
                          const View& to) const {
  const std::string name =
      weight.per_layer ? models::layer_weight_name(
                             blueprint_.layer[static_cast<std::size_t>(weight.table_index)], layer)
                       : weight.name;
  const models::TensorView* tensor = checkpoint_.find(name);
  FTPLAN_CHECK(tensor != nullptr);
  const auto type = tensor->dtype();
  if (!type) return type.error();
  convert(*tensor, *type, to);
  tensor->release();
  return {};
}

Result<void> Loader::init_adapter(const program::AdapterBinding& adapter, std::int32_t layer,
                                  const View& to) const {
  const auto values = std::span(to.as<float>(), static_cast<std::size_t>(to.elements()));
  FTPLAN_CHECK(to.dtype() == DType::kF32);
  if (adapter_) {
    for (const models::AdapterModule& module : adapter_->modules()) {
      if (module.linear.layer != layer || module.linear.linear != adapter.linear) continue;
      const std::vector<float> from = models::values_of(adapter.b ? *module.b : *module.a);
      FTPLAN_CHECK(from.size() == values.size());
      std::copy(from.begin(), from.end(), values.begin());
      return {};
    }
    FTPLAN_CHECK(false);
  }
  if (adapter.b) {
    std::fill(values.begin(), values.end(), 0.0F);
    return {};
  }
  // The engine's sequence is fixed by the standard; its distributions are not.
  std::seed_seq seed{seed_ & 0xFFFFFFFFU, seed_ >> 32, std::uint64_t(layer),
                     std::uint64_t(adapter.linear)};
  std::mt19937 random(seed);
  const double bound = 1.0 / std::sqrt(static_cast<double>(to.width()));
  for (float& value : values) {
    value = static_cast<float>((static_cast<double>(random()) / 4294967296.0 * 2 - 1) * bound);
  }
  return {};
}

}  // namespace ftplan::executor

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/dtype.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/method.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/strategy.h"
#include "data/data_set.h"
#include "executor/arena.h"
#include "executor/communicator.h"
#include "executor/feeding.h"
#include "executor/loader.h"
#include "executor/rank_run.h"

/// Tiny random Llamas with data, and runs of them.
namespace ftplan::executor {

/// The value, or an abort that prints the error.
template <class T>
T need(Result<T> result) {
  if (!result) check_failed(result.error().text().c_str(), __FILE__, __LINE__);
  return std::move(*result);
}
void need(const Result<void>& result);

/// A folder of its own, removed with everything in it.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Random values for every weight of `model`, in one safetensors file.
void write_weights(const std::string& path, const ModelConfig& model, DType dtype);

/// What is trained and how; a step of the defaults takes milliseconds.
struct Setting {
  Method method = Method::kFull;
  Precision precision = Precision::kFp32;
  Optimizer optimizer = Optimizer::kAdamw;
  double momentum = 0;
  std::int64_t ranks = 1;
  std::int64_t zero = 1;  ///< where there is more than one rank
  std::int64_t prefetch = 1;
  std::int64_t persist_below = 0;
  std::int64_t micro_batch = 2;
  std::int64_t accumulation = 1;
  std::int64_t threads = 1;
  std::int64_t layers = 3;
  std::int64_t hidden = 24;
  std::vector<std::int64_t> stage_layers{};  ///< a pipeline over the ranks, else ZeRO-1
  bool tied = false;
  bool double_quantization = true;
  Checkpointing checkpointing{};
  double dropout = 0;
  double validation = 0;
  double learning_rate = 1e-3;
  double clip = 1;
  bool update_in_backward = false;
  std::optional<double> loss_scale{};
  std::int64_t loss_chunk = 512;
  std::int64_t rows = 8;
  std::int64_t longest = 14;  ///< tokens; rows are padded to multiples of 8
  std::vector<MeasuredScratch> scratch;
};

/// For the names of tests.
std::ostream& operator<<(std::ostream& out, const Setting& setting);

/// A model folder and data for a setting.
class World {
 public:
  explicit World(Setting setting);

  [[nodiscard]] std::unique_ptr<RankRun> create(std::int64_t rank = 0,
                                                Communicator* communicator = nullptr) const;
  /// As `create`, and its model is loaded.
  [[nodiscard]] std::unique_ptr<RankRun> load(std::int64_t rank = 0,
                                              Communicator* communicator = nullptr) const;

  [[nodiscard]] Feeder feeder(std::int64_t rank = 0) const { return {job, strategy, rank, data}; }
  [[nodiscard]] StepInput input(std::int64_t step, const StepRows& rows) const;
  /// One step of a single rank.
  [[nodiscard]] StepOutput train(RankRun& run, std::int64_t step) const;

  TempFolder folder;
  Setting setting;
  Strategy strategy;
  Machine machine;
  data::DataSet data;
  Job job;
  std::unique_ptr<Loader> loader;
};

/// All weights and adapters by name, as f32, but for those that ranks keep parts of.
std::map<std::string, std::vector<float>> values_of(const RankRun& run);
/// What is trained, put together from all ranks, each of which calls this on a thread of its own.
std::map<std::string, std::vector<float>> gathered_values(RankRun& run);
/// The bits of all weights, adapters and states that the rank keeps.
std::vector<std::byte> bits_of(const RankRun& run);

/// What some steps of all ranks gave.
struct Trained {
  std::vector<double> losses;  ///< over the global batch
  std::vector<double> norms;
  /// Of rank 0: all, or under ZeRO-3 those that are trained; or of all stages.
  std::map<std::string, std::vector<float>> values;
  std::vector<std::byte> bits;  ///< of all ranks
  bool ranks_agree = true;      ///< what several ranks have is the same, bit by bit
};
/// Each rank on a thread of its own.
Trained train_ranks(const World& world, std::int64_t steps);
/// Makes a rank's communicator, on its thread.
using Connect = std::function<std::unique_ptr<Communicator>(std::int64_t rank)>;
Trained train_ranks(const World& world, std::int64_t steps, const Connect& connect);

/// The largest difference of two sets of values with the same names and sizes.
double largest_difference(const std::map<std::string, std::vector<float>>& a,
                          const std::map<std::string, std::vector<float>>& b);

/// Writes `pattern` over all bytes from `begin` on, whoever owns them.
void poison(const Arena& arena, std::byte pattern, Bytes begin = {});

}  // namespace ftplan::executor

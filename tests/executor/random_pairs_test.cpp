#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/category.h"
#include "core/dtype.h"
#include "core/job.h"
#include "core/json.h"
#include "core/machine.h"
#include "core/method.h"
#include "data/data_set.h"
#include "estimator/predict.h"
#include "executor/calibrate.h"
#include "executor/communicator.h"
#include "executor/feeding.h"
#include "executor/kernels.h"
#include "executor/loader.h"
#include "executor/rank_run.h"
#include "executor/torch_runtime.h"
#include "tests/executor/support.h"
#include "tests/program/support.h"

// A model and a layout that nobody chose: loaded, trained for a step on each rank, and measured.

namespace ftplan::executor {
namespace {

constexpr std::int64_t kPadMultiple = 8;

// Two steps of rows that fill the longest length.
void write_tokens(const std::string& path, const Job& job) {
  std::mt19937 random(5);
  Json rows = Json::array();
  for (std::int64_t row = 0; row < 2 * job.global_batch; ++row) {
    Json ids = Json::array();
    for (std::int64_t i = 0; i < job.sequence; ++i)
      ids.push_back(static_cast<std::int64_t>(random()) % job.model.vocabulary);
    rows.push_back(std::move(ids));
  }
  std::ofstream(path) << Json{{"input_ids", rows}, {"labels", rows}}.dump();
}

class RandomPair : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Seeds, RandomPair,
                         testing::Range(std::uint64_t{1000}, std::uint64_t{1060}));

TEST_P(RandomPair, TakesTheBytesThatWerePredicted) {
  const program::Case c = program::random_case(GetParam());
  SCOPED_TRACE(program::describe(c));
  const TempFolder folder;
  write_weights(folder / "model.safetensors", c.job.model,
                dtype_of(c.job.request.method.precision));
  write_tokens(folder / "tokens.json", c.job);
  JobRequest request = c.job.request;
  request.data.data = {folder / "tokens.json"};
  request.data.pad_multiple = kPadMultiple;
  data::DataContext context;
  context.positions = c.job.model.positions;
  context.vocabulary = c.job.model.vocabulary;
  const auto data = need(data::load_data(request.data, context));
  const Job job = need(validate(request, c.job.model, data.facts));
  Machine machine{
      .threads = 1, .instruction_set = best_instruction_set(), .torch = torch_version()};
  std::map<std::string, MeasuredScratch> scratch;  // ordered by its operation
  for (std::int64_t rank = 0; rank < job.ranks(); ++rank) {
    const auto run = need(RankRun::create({job, c.strategy, machine, rank, data.facts, nullptr}));
    for (const MeasuredScratch& entry : need(measure_scratch(*run)))
      scratch.emplace(entry.operation, entry);
  }
  for (const auto& [operation, entry] : scratch) machine.scratch.push_back(entry);
  const Loader loader = need(Loader::open(job, folder.path(), ""));

  const auto ranks = static_cast<std::size_t>(job.ranks());
  InProcessGroup group(static_cast<int>(ranks));
  std::vector<RankBytes> measured(ranks);
  std::vector<double> losses(ranks);
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      const auto rank = static_cast<std::int64_t>(r);
      InProcessCommunicator communicator(group, static_cast<int>(rank));
      const auto run =
          need(RankRun::create({job, c.strategy, machine, rank, data.facts, &communicator}));
      need(run->load(loader));
      const Feeder feeder(job, c.strategy, rank, data);
      const StepRows rows = feeder.rows_of_step(0);
      const StepInput input{.learning_rate = 1e-3, .target_tokens = rows.target_tokens};
      losses[r] = need(run->train(rows.length, input, feeder.fill(rows))).loss;
      measured[r] = run->measured();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t r = 0; r < ranks; ++r) {
    const auto predicted = need(estimator::predict_rank({job, c.strategy, machine, data.facts, 1},
                                                        static_cast<std::int64_t>(r)));
    EXPECT_EQ(measured[r].device, predicted.device) << to_json(measured[r].device).dump() << "\n"
                                                    << to_json(predicted.device).dump();
    EXPECT_EQ(measured[r].host, predicted.host);
    EXPECT_EQ(predicted.basis, Basis::kExecuted);
    EXPECT_TRUE(std::isfinite(losses[r]));
  }
}

}  // namespace
}  // namespace ftplan::executor

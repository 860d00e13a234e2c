// Runs training steps as `ftplan run` does and reports losses, gradients and bytes, for comparison
// with other trainers.
//
// step_probe: reads paths of cases, one a line, and answers each line with an exit status, once the
// case's report is in PATH.out and what it had to say in PATH.err. Each case runs in a process of
// its own, forked from this one, as loading LibTorch takes much longer than a case.
//
// A case: {"request": job, "strategy", "model": folder, "adapter": folder or "", "data": tokens
// file, "steps", "ranks", "threads", "mutation": name or "", "gradients": safetensors file to
// write, or "", "native_bf16": products are the library's, "calibrate": scratch is measured first,
// "print_rows": the packed rows are reported, "masks": so is dropout, "states": folder for a
// checkpoint after the last step, or ""}

#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/fields.h"
#include "core/job.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/run_result.h"
#include "core/strategy.h"
#include "data/data_set.h"
#include "estimator/predict.h"
#include "executor/calibrate.h"
#include "executor/checkpointing.h"
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
#include "program/lowering.h"
#include "program/op.h"
#include "program/run_programs.h"
#include "tests/parity/masks.h"
#include "tests/parity/mutations.h"

namespace ftplan {
namespace {

struct Case {
  JobRequest request;
  Strategy strategy;
  std::string model, adapter, data, mutation, gradients, states;
  std::int64_t steps = 1;
  std::int64_t threads = 2;
  bool calibrate = false;
  bool native_bf16 = false;
  bool print_rows = false;
  bool masks = false;
};

}  // namespace

template <>
inline constexpr auto fields<Case> =
    std::tuple{Field{"request", &Case::request, ""},
               Field{"strategy", &Case::strategy, ""},
               Field{"model", &Case::model, ""},
               Field{"adapter", &Case::adapter, ""},
               Field{"data", &Case::data, ""},
               Field{"mutation", &Case::mutation, ""},
               Field{"gradients", &Case::gradients, ""},
               Field{"states", &Case::states, ""},
               Field{"steps", &Case::steps, "", Range{1, 1e6}, ""},
               Field{"threads", &Case::threads, "", Range{1, 64}, ""},
               Field{"calibrate", &Case::calibrate, ""},
               Field{"native_bf16", &Case::native_bf16, ""},
               Field{"print_rows", &Case::print_rows, ""},
               Field{"masks", &Case::masks, ""}};

namespace {

using executor::Feeder;
using executor::RankRun;
using program::ProgramKind;

// Without the destructors of LibTorch's globals, which take longer than most cases.
[[noreturn]] void leave(int status) {
  std::cout.flush();
  std::_Exit(status);
}

[[noreturn]] void leave(const Error& error) {
  std::cerr << error.text() << "\n";
  leave(exit_code(error.code));
}

template <class T>
T need(Result<T> result) {
  if (!result) leave(result.error());
  return std::move(*result);
}
void need(const Result<void>& result) {
  if (!result) leave(result.error());
}

// Runs a step one instruction at a time and copies each unit's gradient before its norm is taken.
class GradientCopy {
 public:
  GradientCopy(RankRun& run, std::int64_t length) : run_(run), key_{ProgramKind::kTrain, length} {}

  void step(const executor::StepInput& input, const executor::FillBatch& fill) {
    executor::Session& session = run_.session(key_);
    executor::Scalars scalars = run_.scalars_of(input);
    run_.set_fill(&fill);
    for (std::size_t i = 0; i < session.walk().steps.size(); ++i) {
      const auto index = static_cast<std::int32_t>(i);
      if (session.instruction(index).op == program::Op::kSquareSum) copy(session, index, scalars);
      need(session.execute(index, scalars));
    }
    run_.set_fill(nullptr);
  }

  void write(const std::string& path) const {
    std::vector<models::TensorSpec> specs;
    for (const auto& [name, values] : tensors_) {
      specs.push_back({name, DType::kF32, {static_cast<std::int64_t>(values.size())}});
    }
    auto writer = need(models::SafetensorsWriter::create(path, specs));
    for (const auto& [name, values] : tensors_)
      need(writer.write(name, std::as_bytes(std::span(values))));
    need(writer.finish());
  }

 private:
  static bool member_of(const program::StepProgram& program, program::TensorId tensor,
                        const program::TrainedUnit& unit) {
    return program.tensor(tensor).storage == program.tensor(unit.weights).storage;
  }

  void copy(executor::Session& session, std::int32_t index, executor::Scalars& scalars) {
    executor::Scratch none;
    const executor::Call call = session.call_of(index, scalars, none);
    const program::StepProgram& program = call.program;
    const program::Tensor& flat = program.tensor(call.instruction.in[0]);
    for (const program::TrainedUnit& unit : program.units) {
      if (unit.update_gradients != call.instruction.in[0].tensor) continue;
      const auto add = [&](program::TensorId id, std::string name) {
        const program::Tensor& member = program.tensor(id);
        if (!member_of(program, id, unit)) return;
        const std::int64_t begin = member.offset.value / size_of(member.dtype).value;
        std::vector<float> values(static_cast<std::size_t>(member.shape.elements()));
        const std::size_t width = static_cast<std::size_t>(size_of(flat.dtype).value);
        models::to_f32(
            {call.in[0].data + static_cast<std::size_t>(begin) * width, values.size() * width},
            flat.dtype, values);
        tensors_.emplace_back(std::move(name), std::move(values));
      };
      const auto blueprint = models::make_blueprint(run_.setup().job.model);
      for (const auto& binding : program.weights) {
        if (binding.per_layer != unit.per_layer) continue;
        add(binding.tensor,
            binding.per_layer
                ? models::layer_weight_name(
                      blueprint, blueprint.layer[static_cast<std::size_t>(binding.table_index)],
                      call.layer)
                : binding.name);
      }
      for (const auto& binding : program.adapters) {
        if (binding.per_layer != unit.per_layer) continue;
        add(binding.tensor,
            models::adapter_tensor_name({call.layer, binding.linear},
                                        binding.b ? models::LoraMatrix::kB : models::LoraMatrix::kA,
                                        run_.setup().job.model));
        // In PEFT's order.
        if (binding.transposed && member_of(program, binding.tensor, unit)) {
          const auto rows = static_cast<std::size_t>(program.tensor(binding.tensor).shape.rows());
          tensors_.back().second = models::transposed(tensors_.back().second, rows);
        }
      }
    }
  }

  RankRun& run_;
  RankRun::Key key_;
  std::vector<std::pair<std::string, std::vector<float>>> tensors_;
};

struct RankReport {
  Json losses = Json::array();
  Json norms = Json::array();
  Json masks = Json::array();
  std::int64_t skipped = 0;
  RankBytes measured;
  RankPrediction prediction;
};

Json mask_json(std::int64_t step, const parity::Mask& mask) {
  Json out = Json::object();
  out["step"] = step;
  out["micro_step"] = mask.micro_step;
  out["layer"] = mask.layer;
  out["site"] = mask.site;
  out["row"] = mask.row;
  out["elements"] = mask.elements;
  out["kept"] = mask.kept;
  out["digest"] = mask.digest;
  out["scale"] = mask.scale;
  return out;
}

// Documents of each row: [{"input_ids", "labels"}, ...].
Json rows_json(const data::RowSet& set) {
  Json out = Json::array();
  for (std::int64_t row = 0; row < set.rows(); ++row) {
    const auto ids = set.part_of(set.ids, row);
    const auto labels = set.part_of(set.labels, row);
    Json documents = Json::array();
    set.for_each_document(row, [&](std::int64_t begin, std::int64_t end) {
      Json document = Json::object();
      document["input_ids"] = std::vector<std::int32_t>(ids.begin() + begin, ids.begin() + end);
      document["labels"] = std::vector<std::int32_t>(labels.begin() + begin, labels.begin() + end);
      documents.push_back(document);
    });
    out.push_back(documents);
  }
  return out;
}

// What `ftplan calibrate` does: on memory of its own, whose content is lost.
std::vector<MeasuredScratch> calibrate(const Case& c, const Job& job, const Machine& machine,
                                       const data::DataSet& data) {
  const auto run = need(RankRun::create(
      {.job = job, .strategy = c.strategy, .machine = machine, .facts = data.facts}));
  return need(executor::measure_scratch(*run));
}

RankReport run_rank(const Case& c, const Job& job, const Machine& machine,
                    const data::DataSet& data, std::int64_t rank,
                    executor::Communicator* communicator) {
  auto run = need(RankRun::create({job, c.strategy, machine, rank, data.facts, communicator}));
  const auto loader = need(executor::Loader::open(job, c.model, c.adapter));
  for (const auto& request : program::run_programs(job, c.strategy, rank, data.facts)) {
    parity::mutate_program(c.mutation, run->program({request.kind, request.sequence}));
  }
  need(run->load(loader));
  const Feeder feeder(job, c.strategy, rank, data);
  RankReport report;
  for (std::int64_t step = 0; step < c.steps; ++step) {
    const auto rows = feeder.rows_of_step(step);
    executor::StepInput input{step,
                              executor::learning_rate_at(job.request.training, job.learning_rate,
                                                         step - run->skipped_steps(), c.steps),
                              rows.target_tokens};
    parity::mutate_input(c.mutation, input);
    const auto true_fill = feeder.fill(rows);
    const auto fill = parity::mutate_batch(c.mutation, true_fill);
    if (step == 0 && !c.gradients.empty()) {
      // On a run of its own, so that the steps below begin from the same state.
      auto twin = need(RankRun::create({job, c.strategy, machine, rank, data.facts, communicator}));
      need(twin->load(loader));
      GradientCopy copy(*twin, rows.length);
      copy.step(input, fill);
      copy.write(c.gradients);
    }
    if (step < 2 && c.masks) {
      auto twin = need(RankRun::create({job, c.strategy, machine, rank, data.facts, communicator}));
      need(twin->load(loader));
      for (const parity::Mask& mask : parity::observe_masks(*twin, rows.length, input, fill)) {
        report.masks.push_back(mask_json(step, mask));
      }
    }
    const auto output = need(run->train(rows.length, input, fill));
    report.losses.push_back(output.loss);
    report.norms.push_back(output.gradient_norm);
  }
  if (!c.states.empty())
    need(executor::Checkpoints(c.states, std::string(16, '0')).save(*run, {.step = c.steps}));
  report.skipped = run->skipped_steps();
  report.measured = run->measured();
  report.prediction =
      need(estimator::predict_rank({job, c.strategy, machine, data.facts, c.steps}, rank));
  return report;
}

int main_of(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  const auto c =
      need(from_json<Case>(need(parse_json(text.str(), path)), path, Missing::kKeepDefault));
  const auto model = need(models::load_model_config(c.model, {}));
  JobRequest request = c.request;
  request.data.data = std::vector<std::string>{c.data};
  data::DataContext context;
  context.positions = model.config.positions;
  context.vocabulary = model.config.vocabulary;
  const auto data = need(data::load_data(request.data, context));
  const Job job = need(validate(request, model.config, data.facts));
  executor::install_allocator();
  Machine machine{.threads = c.threads,
                  .instruction_set = executor::best_instruction_set(),
                  .torch = executor::torch_version(),
                  .native_bf16 = c.native_bf16};
  if (c.calibrate) machine.scratch = calibrate(c, job, machine, data);
  const std::int64_t ranks = job.ranks();
  executor::InProcessGroup group(static_cast<int>(ranks));
  std::vector<RankReport> reports(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      executor::InProcessCommunicator communicator(group, static_cast<int>(rank));
      reports[static_cast<std::size_t>(rank)] =
          run_rank(c, job, machine, data, rank, &communicator);
    });
  }
  for (std::thread& thread : threads) thread.join();
  Json out = Json::object();
  Json losses = reports[0].losses;
  for (std::size_t i = 0; i < losses.size(); ++i) {
    double sum = 0;
    for (const RankReport& report : reports) sum += report.losses[i].get<double>();
    losses[i] = sum;
  }
  out["losses"] = losses;
  out["norms"] = reports[0].norms;
  out["masks"] = reports[0].masks;
  out["skipped"] = reports[0].skipped;
  if (c.print_rows) out["rows"] = rows_json(data.training);
  out["measured"] = Json::array();
  out["predicted"] = Json::array();
  for (const RankReport& report : reports) {
    out["measured"].push_back(to_json(report.measured));
    out["predicted"].push_back(to_json(report.prediction));
  }
  out["outside_arena_bytes"] = executor::outside_bytes().value;
  std::cout << render_json(out) << "\n";
  return 0;
}

}  // namespace
}  // namespace ftplan

int main() {
  for (std::string path; std::getline(std::cin, path);) {
    const pid_t child = fork();
    FTPLAN_CHECK(child >= 0);
    if (child == 0) {
      FTPLAN_CHECK(std::freopen((path + ".out").c_str(), "w", stdout) != nullptr);
      FTPLAN_CHECK(std::freopen((path + ".err").c_str(), "w", stderr) != nullptr);
      ftplan::leave(ftplan::main_of(path));
    }
    int status = 0;
    FTPLAN_CHECK(waitpid(child, &status, 0) == child);
    std::cout << (WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)) << std::endl;
  }
}

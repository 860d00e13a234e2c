#include "tests/program/support.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/enums.h"
#include "core/loss_scale.h"
#include "core/method.h"
#include "core/text.h"
#include "program/lifetimes.h"
#include "program/lower.h"
#include "program/occupancy.h"
#include "program/op.h"
#include "program/passes/passes.h"

namespace ftplan::program {
namespace {

// Draws that are the same on every platform, unlike those of <random>'s distributions.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : engine_(seed) {}
  std::int64_t below(std::int64_t limit) {
    return static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(limit));
  }
  std::int64_t in(std::int64_t low, std::int64_t high) { return low + below(high - low + 1); }
  bool one_in(std::int64_t n) { return below(n) == 0; }
  template <class T>
  T of(std::initializer_list<T> choices) {
    return choices.begin()[below(static_cast<std::int64_t>(choices.size()))];
  }

 private:
  std::mt19937_64 engine_;
};

// Rows lie on both sides of the original positions.
void add_random_rope(ModelConfig& model, Draw& draw) {
  if (draw.one_in(2)) return;
  model.rope_scaling = draw.of({RopeScaling::kLinear, RopeScaling::kLlama3, RopeScaling::kDynamic,
                                RopeScaling::kYarn, RopeScaling::kLongrope});
  model.rope_factor = 4;
  model.rope_original_positions = draw.in(2, 100);
  if (model.family == Family::kPhi3 && draw.one_in(2)) model.rotary_size = model.head_size / 2;
  if (model.rope_scaling != RopeScaling::kLongrope) return;
  const auto frequencies = static_cast<std::size_t>(model.rotated_size() / 2);
  model.rope_short_factors.assign(frequencies, 1.5);
  model.rope_long_factors.assign(frequencies, 3);
}

ModelConfig random_model(Draw& draw) {
  ModelConfig model{.name = "random"};
  model.kv_heads = draw.in(1, 3);
  model.heads = model.kv_heads * draw.in(1, 4);
  model.head_size = draw.of<std::int64_t>({4, 8, 16, 24});
  model.hidden = draw.one_in(4) ? 8 * draw.in(1, 12) : model.heads * model.head_size;
  model.intermediate = 8 * draw.in(1, 40);
  model.layers = draw.in(1, 12);
  model.vocabulary = draw.in(10, 700);
  model.positions = 512;
  model.tied_embeddings = draw.one_in(2);
  model.attention_bias = draw.one_in(3);
  model.mlp_bias = draw.one_in(4);
  model.family = draw.of({Family::kLlama, Family::kMistral, Family::kQwen2, Family::kQwen3,
                          Family::kPhi3, Family::kGemma2, Family::kFalcon, Family::kMixtral});
  if (model.family == Family::kMixtral) {
    model.experts = draw.in(2, 5);
    model.experts_per_token = draw.in(1, model.experts);
    model.intermediate = 256 * draw.in(1, 2);
  }
  if (model.family == Family::kFalcon) {
    model.mlp_bias = model.attention_bias;
    model.alibi = draw.one_in(3);
    model.parallel = !draw.one_in(3);
    model.shared_norm = model.parallel && draw.one_in(2);
  }
  model.window = draw.one_in(3) ? draw.in(1, 100) : 0;
  model.window_first = model.window > 0 ? draw.in(0, model.layers) : 0;
  model.window_every = model.window > 0 ? draw.in(1, 3) : 1;
  add_random_rope(model, draw);
  return model;
}

// Trained in full beside adapters.
void add_random_modules(MethodOptions& method, const ModelConfig& model, Draw& draw) {
  if (method.method == Method::kFull || draw.one_in(2)) return;
  // What is adapted is not trained in full, too; PEFT does not tie Falcon's pair.
  const auto& names = adapted_names(model.family);
  const auto is_edge = [&](const std::string& name) {
    return name.ends_with(names.back()) || name.ends_with(names[names.size() - 2]);
  };
  const bool edges = std::any_of(method.targets.begin(), method.targets.end(), is_edge);
  const bool free = !edges && !(model.tied_embeddings && model.family == Family::kFalcon);
  for (const std::string& module : whole_module_names(model)) {
    if (draw.one_in(3) && (free || !is_edge(module))) method.modules_to_save.push_back(module);
  }
  method.ensure_weight_tying = !edges;
}

MethodOptions random_method(Draw& draw, const ModelConfig& model) {
  const Family family = model.family;
  MethodOptions method{
      .method = draw.of<Method>({Method::kFull, Method::kLora, Method::kQlora, Method::kInt8Lora})};
  method.double_quantization = draw.one_in(2);
  method.precision = draw.of({Precision::kFp32, Precision::kBf16, Precision::kFp16});
  method.rank = draw.in(1, 9);
  method.dropout = draw.one_in(3) ? 0.1 : 0;
  method.targets.clear();
  for (const std::string& linear : linear_names(family)) {
    if (draw.one_in(2)) method.targets.push_back(linear);
  }
  for (const int edge : {embedding_index(family), head_index(family)}) {
    if (draw.one_in(4))
      method.targets.push_back(adapted_names(family)[static_cast<std::size_t>(edge)]);
  }
  if (method.targets.empty()) method.targets.emplace_back("all-linear");
  if (draw.one_in(3))
    method.rank_pattern = {{linear_names(family).front(), static_cast<double>(draw.in(1, 9))}};
  add_random_modules(method, model, draw);
  return method;
}

// A pipeline of two or three stages. What is tied does not learn in one.
void cut_into_stages(JobRequest& request, Strategy& strategy, const ModelConfig& model,
                     Draw& draw) {
  const bool tied_learns = model.tied_embeddings && (request.method.method == Method::kFull ||
                                                     !request.method.modules_to_save.empty());
  if (tied_learns) return;
  const std::int64_t stages = draw.in(2, std::min<std::int64_t>(3, model.layers));
  request.devices.gpus = std::to_string(stages) + "xcpu";
  strategy.zero = 0;
  std::int64_t left = model.layers;
  for (std::int64_t stage = 0; stage + 1 < stages; ++stage) {
    strategy.stage_layers.push_back(draw.in(1, left - (stages - 1 - stage)));
    left -= strategy.stage_layers.back();
  }
  strategy.stage_layers.push_back(left);
}

}  // namespace

ModelConfig toy_model() {
  ModelConfig model{.name = "toy"};
  model.vocabulary = 64;
  model.hidden = 16;
  model.intermediate = 32;
  model.layers = 2;
  model.heads = 2;
  model.kv_heads = 1;
  model.head_size = 8;
  model.positions = 64;
  return model;
}

JobRequest toy_request() {
  JobRequest request;
  request.method.method = Method::kFull;
  request.method.precision = Precision::kFp32;
  request.data.seq = 8;
  return request;
}

Case make_case(JobRequest request, const ModelConfig& model, const Strategy& strategy) {
  request.training.micro_batch = strategy.micro_batch;
  request.training.accumulation = strategy.accumulation;
  request.layout = {.zero = strategy.zero,
                    .checkpointing = strategy.checkpointing,
                    .loss_chunk = strategy.loss_chunk,
                    .prefetch = strategy.prefetch,
                    .persist_below = strategy.persist_below};
  if (!strategy.stage_layers.empty()) request.layout.pipeline = Pipeline::kNaive;
  auto job = validate(request, model, std::nullopt);
  if (!job) check_failed(job.error().text().c_str(), __FILE__, __LINE__);
  return {.job = std::move(*job), .strategy = strategy, .machine = {}};
}

Case random_case(std::uint64_t seed) {
  Draw draw(seed);
  const ModelConfig model = random_model(draw);
  JobRequest request;
  request.method = random_method(draw, model);
  request.data.seq = 8 * draw.in(1, 12);
  request.method.optimizer = draw.of(
      {Optimizer::kAdamw, Optimizer::kAdamw8bit, Optimizer::kPagedAdamw8bit, Optimizer::kSgd});
  if (request.method.optimizer == Optimizer::kSgd)
    request.training.momentum = draw.one_in(2) ? 0.9 : 0;
  request.training.decay = draw.one_in(2) ? Decay::kAll : Decay::kMatrices;
  Strategy strategy{.micro_batch = draw.in(1, 3), .accumulation = draw.in(1, 3)};
  const bool checkpointing = model.layers > 1 && !draw.one_in(3);
  if (checkpointing) strategy.checkpointing.every = draw.one_in(2) ? 1 : draw.in(2, model.layers);
  if (draw.one_in(2)) {
    request.devices.gpus = std::to_string(draw.of<std::int64_t>({2, 2, 2, 3, 4})) + "xcpu";
    strategy.zero = draw.in(0, 3);
    strategy.prefetch = draw.in(0, 3);
    strategy.persist_below = draw.of<std::int64_t>({0, 0, 500, 20000});
  }
  if (model.layers > 1 && draw.one_in(5)) cut_into_stages(request, strategy, model, draw);
  strategy.loss_chunk = draw.of<std::int64_t>({16, 40, 512});
  const bool may_update_early = strategy.accumulation == 1 && request.devices.gpus == "cpu" &&
                                !scales_loss(request.method.precision);
  if (may_update_early && draw.one_in(2)) {
    request.training.clip = 0;
    request.training.update_in_backward = true;
  }
  return make_case(request, model, strategy);
}

std::string describe(const Case& c) {
  const ModelConfig& m = c.job.model;
  const auto number = [](std::int64_t value) { return std::to_string(value); };
  const MethodOptions& method = c.job.request.method;
  return std::string(to_text(m.family)) + " " + number(m.hidden) + "x" + number(m.intermediate) +
         " layers " + number(m.layers) + " heads " + number(m.heads) + "/" + number(m.kv_heads) +
         "x" + number(m.head_size) + " vocabulary " + number(m.vocabulary) +
         (m.tied_embeddings ? " tied" : "") + (m.attention_bias ? " bias" : "") +
         (m.alibi ? " alibi" : "") + (m.parallel ? " parallel" : "") +
         (m.shared_norm ? " shared norm" : "") + " experts " + number(m.experts) + "/" +
         number(m.experts_per_token) + " rope " + to_text(m.rope_scaling) + " from " +
         number(m.rope_original_positions) + " " + to_text(method.method) + " " +
         to_text(method.precision) + " " + to_text(method.optimizer) + " momentum " +
         format_number(c.job.request.training.momentum) +
         (c.job.request.training.update_in_backward ? " in backward" : "") + " targets " +
         join(method.targets, ",") + " dropout " + format_number(method.dropout) + " sequence " +
         number(c.job.sequence) + " micro-batch " + number(c.strategy.micro_batch) +
         " accumulation " + number(c.strategy.accumulation) + " checkpointing " +
         to_text(c.strategy.checkpointing) + " zero " + number(c.strategy.zero) + " prefetch " +
         number(c.strategy.prefetch) + " persist below " + number(c.strategy.persist_below) +
         " ranks " + number(c.job.ranks()) + " stages " + number(c.job.stages()) + " chunk " +
         number(c.strategy.loss_chunk);
}

StepProgram lower_case(const Case& c, std::int64_t rank, Sampling sampling, ProgramKind kind) {
  Lowering lowering = begin_lowering(c.job, c.strategy, c.machine, {.kind = kind, .rank = rank});
  lowering.sampling = sampling;
  for (const Pass& pass : passes()) {
    const auto ok = pass.run(lowering);
    if (!ok) check_failed(ok.error().text().c_str(), pass.name, __LINE__);
  }
  return std::move(lowering.program);
}

std::vector<StepProgram> lower_ranks(const Case& c) {
  std::vector<StepProgram> programs;
  for (std::int64_t rank = 0; rank < c.job.ranks(); ++rank) programs.push_back(lower_case(c, rank));
  return programs;
}

bool only_receives_await(const StepProgram& program, EventId event) {
  return std::none_of(
      program.instructions.begin(), program.instructions.end(), [&](const Instruction& at) {
        return at.op != Op::kReceive && std::any_of(at.waits.begin(), at.waits.end(),
                                                    [&](auto wait) { return wait.event == event; });
      });
}

std::int64_t lower_bound_of(const StepProgram& program, Sampling sampling, Place place) {
  const Walk steps = walk(program, sampling);
  std::int64_t peak = 0;
  for (const CategoryCounts& live : occupancy(program, steps, lives_of(program, steps), place)) {
    peak = std::max(peak, sum_of(live));
  }
  return peak;
}

}  // namespace ftplan::program

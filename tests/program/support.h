#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/category.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/model_config.h"
#include "core/strategy.h"
#include "program/lowering.h"
#include "program/step_program.h"
#include "program/walk.h"

/// Toy models, random jobs, and programs lowered from them.
namespace ftplan::program {

/// What `lower` takes, with everything it refers to.
struct Case {
  Job job;
  Strategy strategy;
  Machine machine;
};

/// A two-layer model whose sizes can be multiplied by hand: 16 hidden, 32 intermediate, 2 heads of
/// 8, 64 tokens known.
ModelConfig toy_model();

/// The request's choices are those of `strategy`; aborts when `validate` refuses it.
Case make_case(JobRequest request, const ModelConfig& model, const Strategy& strategy);

/// A full fine-tuning of the toy model in f32 on one row of 8 tokens.
JobRequest toy_request();

/// A small model and a layout of it, decided by `seed` alone. One to four ranks.
Case random_case(std::uint64_t seed);
/// What the case is about, for messages.
std::string describe(const Case& c);

/// The training program after all passes.
StepProgram lower_case(const Case& c, std::int64_t rank = 0, Sampling sampling = Sampling::kEnds,
                       ProgramKind kind = ProgramKind::kTrain);
std::vector<StepProgram> lower_ranks(const Case& c);

/// Whether only receives wait for `event`: until their bytes are free of what had them before. If
/// the layout gives them bytes that nothing had, they wait for nothing.
bool only_receives_await(const StepProgram& program, EventId event);

/// The largest sum of live bytes over all steps: no layout can need less.
std::int64_t lower_bound_of(const StepProgram& program, Sampling sampling,
                            Place place = Place::kDevice);

}  // namespace ftplan::program

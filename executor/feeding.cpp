#include "executor/feeding.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/job.h"
#include "core/strategy.h"
#include "core/training.h"
#include "data/batch.h"
#include "data/data_set.h"
#include "data/rows.h"
#include "data/sampler.h"
#include "executor/call.h"
#include "executor/rank_run.h"

namespace ftplan::executor {
namespace {

void fill_slots(const data::RowSet& set, const StepRows& rows, std::int64_t first,
                std::int64_t micro_batch, const std::array<View, 8>& to) {
  const auto count = static_cast<std::int64_t>(rows.rows.size());
  const std::int64_t begin = std::min(first, count);
  const std::int64_t end = std::min(first + micro_batch, count);
  const auto chosen = std::span(rows.rows).subspan(static_cast<std::size_t>(begin),
                                                   static_cast<std::size_t>(end - begin));
  (void)data::make_batch(set, chosen,
                         {.micro_batch = micro_batch, .length = rows.length, .first_slot = first},
                         batch_spans(to));
}

data::Sampler sampler_of(const Job& job, const data::DataSet& data) {
  const auto order =
      job.request.data.shuffle ? data::Sampler::Order::kShuffled : data::Sampler::Order::kAsInFile;
  const auto seed = static_cast<std::uint64_t>(job.request.training.seed);
  if (!data.drawn.empty()) return {data.drawn, job.global_batch, seed, order};
  return {data.training.rows(), job.global_batch, seed, order};
}

}  // namespace

data::BatchSpans batch_spans(const std::array<View, 8>& to) {
  const auto span_of = [](const View& view) {
    return view ? std::span(view.as<std::int32_t>(), static_cast<std::size_t>(view.elements()))
                : std::span<std::int32_t>();
  };
  return {span_of(to[0]), span_of(to[1]), span_of(to[2]),
          span_of(to[3]), span_of(to[4]), span_of(to[5])};
}

Feeder::Feeder(const Job& job, const Strategy& strategy, std::int64_t rank,
               const data::DataSet& data)
    : data_(data),
      sampler_(sampler_of(job, data)),
      micro_batch_(strategy.micro_batch),
      eval_batch_(job.request.training.eval_batch.value_or(strategy.micro_batch)),
      ranks_(job.data_parallel()),
      rank_(rank / job.stages()),
      pad_multiple_(job.request.data.pad_multiple) {}

StepRows Feeder::describe(const data::RowSet& set, std::vector<std::int64_t> rows) const {
  StepRows step{.rows = std::move(rows)};
  step.length = data::padded_length(set, step.rows, pad_multiple_);
  step.target_tokens = data::target_count(set, step.rows);
  for (const std::int64_t row : step.rows) step.tokens += set.length(row);
  return step;
}

StepRows Feeder::rows_of_step(std::int64_t step) const {
  return describe(data_.training, sampler_.rows_of_step(step));
}

FillBatch Feeder::fill(const StepRows& rows) const {
  return [this, &rows](std::int32_t micro_step, const std::array<View, 8>& to) {
    fill_slots(data_.training, rows, (micro_step * ranks_ + rank_) * micro_batch_, micro_batch_,
               to);
  };
}

std::vector<StepRows> Feeder::validation() const {
  std::vector<StepRows> passes;
  const std::int64_t of_all = eval_batch_ * ranks_;
  for (std::int64_t begin = 0; begin < data_.validation.rows(); begin += of_all) {
    std::vector<std::int64_t> rows;
    const std::int64_t end = std::min(begin + of_all, data_.validation.rows());
    for (std::int64_t row = begin; row < end; ++row) rows.push_back(row);
    passes.push_back(describe(data_.validation, std::move(rows)));
  }
  return passes;
}

FillBatch Feeder::fill_validation(const StepRows& rows) const {
  return [this, &rows](std::int32_t, const std::array<View, 8>& to) {
    fill_slots(data_.validation, rows, rank_ * eval_batch_, eval_batch_, to);
  };
}

std::int64_t total_steps(const TrainingOptions& training, std::int64_t steps_per_epoch) {
  if (training.steps) return *training.steps;
  return std::max<std::int64_t>(
      1,
      static_cast<std::int64_t>(std::ceil(training.epochs * static_cast<double>(steps_per_epoch))));
}

double learning_rate_at(const TrainingOptions& training, double highest, std::int64_t step,
                        std::int64_t total) {
  const std::int64_t warmup = training.warmup_steps.value_or(
      static_cast<std::int64_t>(std::ceil(training.warmup_ratio * static_cast<double>(total))));
  if (step < warmup)
    return highest * static_cast<double>(step) /
           static_cast<double>(std::max<std::int64_t>(1, warmup));
  const double left = static_cast<double>(std::max<std::int64_t>(1, total - warmup));
  const double progress = static_cast<double>(step - warmup) / left;
  switch (training.schedule) {
    case Schedule::kConstant:
      return highest;
    case Schedule::kLinear:
      return highest * std::max(0.0, 1 - progress);
    case Schedule::kCosine:
      return highest * std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * progress)));
  }
  FTPLAN_CHECK(false);
}

}  // namespace ftplan::executor

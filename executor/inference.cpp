#include "executor/inference.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/job.h"
#include "core/machine.h"
#include "core/result.h"
#include "core/strategy.h"
#include "core/units.h"
#include "data/batch.h"
#include "data/rows.h"
#include "executor/call.h"
#include "executor/feeding.h"
#include "executor/loader.h"
#include "executor/rank_run.h"
#include "program/lowering.h"

namespace ftplan::executor {
namespace {

using program::ProgramKind;
using program::ProgramRequest;

constexpr std::int64_t kPadding = 64;

Result<std::unique_ptr<RankRun>> load(const Job& job, const Machine& machine, const Loader& loader,
                                      const Strategy& strategy,
                                      std::vector<ProgramRequest> programs) {
  for (ProgramRequest& request : programs) request.training_state = false;
  auto run = RankRun::create(
      {.job = job, .strategy = strategy, .machine = machine, .programs = std::move(programs)});
  if (!run) return run;
  if (auto ok = (*run)->load(loader); !ok) return ok.error();
  return run;
}

// One prompt at the right of `length` positions.
void fill_prompt(std::span<const std::int32_t> prompt, const std::array<View, 8>& to) {
  const data::BatchSpans spans = batch_spans(to);
  const auto pad = spans.ids.size() - prompt.size();
  for (std::size_t i = 0; i < spans.ids.size(); ++i) {
    const bool padding = i < pad;
    spans.ids[i] = padding ? 0 : prompt[i - pad];
    spans.positions[i] = padding ? 0 : static_cast<std::int32_t>(i - pad);
    spans.document_start[i] = static_cast<std::int32_t>(padding ? i : pad);
  }
  if (!spans.row_ids.empty()) spans.row_ids[0] = 0;
}

void fill_token(std::int32_t id, std::int64_t position, std::int64_t pad,
                const std::array<View, 8>& to) {
  const data::BatchSpans spans = batch_spans(to);
  spans.ids[0] = id;
  spans.positions[0] = static_cast<std::int32_t>(position);
  spans.document_start[0] = static_cast<std::int32_t>(pad);
  if (!spans.row_ids.empty()) spans.row_ids[0] = 0;
}

class Generator {
 public:
  Generator(RankRun& run, const Generation& generation) : run_(run), generation_(generation) {}

  Result<std::vector<std::int32_t>> run(std::span<const std::int32_t> prompt,
                                        const std::function<void(std::int32_t)>& on_token) {
    const auto size = static_cast<std::int64_t>(prompt.size());
    const std::int64_t padded = round_up(size, kPadding);
    const FillBatch first = [&](std::int32_t, const std::array<View, 8>& to) {
      fill_prompt(prompt, to);
    };
    auto next = run_.generate({ProgramKind::kPrefill, padded}, 0, first);
    std::vector<std::int32_t> text;
    for (std::int64_t made = 0;; ++made) {
      if (!next) return next.error();
      const std::int32_t id = next->front();
      const auto& stops = generation_.stops;
      if (std::find(stops.begin(), stops.end(), id) != stops.end()) return text;
      text.push_back(id);
      on_token(id);
      if (made + 1 == generation_.new_tokens) return text;
      const FillBatch one = [&](std::int32_t, const std::array<View, 8>& to) {
        fill_token(id, size + made, padded - size, to);
      };
      next = run_.generate({ProgramKind::kDecode, 1}, padded + made, one);
    }
  }

 private:
  RankRun& run_;
  const Generation& generation_;
};

}  // namespace

Result<Evaluation> evaluate_rows(const Job& job, const Machine& machine, const Loader& loader,
                                 const data::RowSet& rows, std::int64_t batch) {
  const std::int64_t multiple = job.request.data.pad_multiple;
  std::map<std::int64_t, std::vector<std::int64_t>> by_length;
  for (std::int64_t row = 0; row < rows.rows(); ++row) {
    by_length[data::padded(rows.length(row), multiple)].push_back(row);
  }
  std::vector<ProgramRequest> programs = {{.kind = ProgramKind::kLoad}};
  for (const auto& [length, members] : by_length) {
    programs.push_back({.kind = ProgramKind::kEvaluate, .rows = batch, .sequence = length});
  }
  auto run = load(job, machine, loader, {.micro_batch = batch}, std::move(programs));
  if (!run) return run.error();
  Evaluation evaluation{.rows = rows.rows()};
  double sum = 0;
  for (const auto& [length, members] : by_length) {
    for (std::size_t begin = 0; begin < members.size(); begin += static_cast<std::size_t>(batch)) {
      const auto count = std::min(static_cast<std::size_t>(batch), members.size() - begin);
      const auto chosen = std::span(members).subspan(begin, count);
      std::int64_t targets = 0;
      const data::BatchShape shape{.micro_batch = batch, .length = length};
      const FillBatch fill = [&](std::int32_t, const std::array<View, 8>& to) {
        targets = data::make_batch(rows, chosen, shape, batch_spans(to));
      };
      const auto loss = (*run)->evaluate(length, fill);
      if (!loss) return loss.error();
      sum += *loss;
      evaluation.target_tokens += targets;
    }
  }
  if (evaluation.target_tokens == 0)
    return bad_input("--data", "no token has a label: nothing to evaluate");
  evaluation.loss = sum / static_cast<double>(evaluation.target_tokens);
  return evaluation;
}

Result<std::vector<std::vector<std::int32_t>>> generate_greedy(
    const Job& job, const Machine& machine, const Loader& loader,
    std::span<const std::vector<std::int32_t>> prompts, const Generation& generation,
    const std::function<void(std::size_t, std::int32_t)>& on_token) {
  std::int64_t longest = 0;
  for (const auto& prompt : prompts) {
    const auto size = static_cast<std::int64_t>(prompt.size());
    if (size == 0) return bad_input("--prompt", "got no tokens: give some text");
    if (size + generation.new_tokens > job.model.positions) {
      return bad_input("--prompt", "got " + std::to_string(size) + " tokens and " +
                                       std::to_string(generation.new_tokens) + " to make, but " +
                                       job.model.name + " has " +
                                       std::to_string(job.model.positions) + " positions");
    }
    longest = std::max(longest, round_up(size, kPadding));
  }
  const std::int64_t cache = longest + round_up(generation.new_tokens, kPadding);
  std::vector<ProgramRequest> programs = {
      {.kind = ProgramKind::kLoad, .cache = cache},
      {.kind = ProgramKind::kDecode, .rows = 1, .sequence = 1, .cache = cache}};
  for (std::int64_t length = kPadding; length <= longest; length += kPadding) {
    const bool used = std::any_of(prompts.begin(), prompts.end(), [&](const auto& prompt) {
      return round_up(static_cast<std::int64_t>(prompt.size()), kPadding) == length;
    });
    if (used)
      programs.push_back(
          {.kind = ProgramKind::kPrefill, .rows = 1, .sequence = length, .cache = cache});
  }
  auto run = load(job, machine, loader, {.micro_batch = 1}, std::move(programs));
  if (!run) return run.error();
  Generator generator(**run, generation);
  std::vector<std::vector<std::int32_t>> texts;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    auto text = generator.run(prompts[i], [&](std::int32_t id) {
      if (on_token) on_token(i, id);
    });
    if (!text) return text.error();
    texts.push_back(std::move(*text));
  }
  return texts;
}

}  // namespace ftplan::executor

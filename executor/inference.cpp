#include "executor/inference.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/job.h"
#include "core/machine.h"
#include "core/model_config.h"
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

// Equal for rows whose documents rotate with equal frequencies: a row's loss must not depend on
// those that it is evaluated with.
std::int64_t frequencies_of(const ModelConfig& model, const data::RowSet& rows, std::int64_t row) {
  std::int64_t longest = 0;
  rows.for_each_document(
      row, [&](std::int64_t begin, std::int64_t end) { longest = std::max(longest, end - begin); });
  if (!model.rope_follows_length(longest)) return 0;
  return model.rope_switch() > 0 ? 1 : longest;
}

// Prompts that are continued together, one in each row; rows without a prompt repeat the first.
class BatchGenerator {
 public:
  BatchGenerator(RankRun& run, const Generation& generation,
                 std::span<const std::vector<std::int32_t>> prompts, std::size_t first,
                 const OnToken& on_token)
      : run_(run), generation_(generation), prompts_(prompts), first_(first), on_token_(on_token) {
    for (std::size_t row = 0; row < texts_.size(); ++row) {
      const auto& prompt = prompts[row < prompts.size() ? row : 0];
      fed_.emplace_back(prompt);
      padded_ = std::max(padded_, round_up(size_of_row(row), kPadding));
      done_[row] = row >= prompts.size();
    }
  }

  Result<std::vector<std::vector<std::int32_t>>> run() {
    const FillBatch all = [&](std::int32_t, const std::array<View, 8>& to) { fill_prompts(to); };
    TokenInput input{.sampling = generation_.sampling};
    auto next = run_.generate({ProgramKind::kPrefill, padded_}, input, all);
    while (true) {
      if (!next) return next.error();
      ++input.made;
      if (take(*next) || input.made == generation_.new_tokens) break;
      for (std::size_t row = 0; row < fed_.size(); ++row) fed_[row].push_back((*next)[row]);
      if (longest_row() == run_.setup().job.model.rope_switch() + 1) {
        // Keys in the caches have frequencies that the rows have outgrown.
        padded_ = round_up(longest_row(), kPadding);
        input.cache_length = 0;
        cached_ = 0;
        next = run_.generate({ProgramKind::kPrefill, padded_}, input, all);
        continue;
      }
      input.cache_length = padded_ + cached_++;
      const FillBatch one = [&](std::int32_t, const std::array<View, 8>& to) { fill_tokens(to); };
      next = run_.generate({ProgramKind::kDecode, 1}, input, one);
    }
    texts_.resize(prompts_.size());
    return std::move(texts_);
  }

 private:
  [[nodiscard]] std::int64_t size_of_row(std::size_t row) const {
    return static_cast<std::int64_t>(fed_[row].size());
  }
  [[nodiscard]] std::int64_t longest_row() const {
    std::int64_t longest = 0;
    for (std::size_t row = 0; row < fed_.size(); ++row)
      longest = std::max(longest, size_of_row(row));
    return longest;
  }

  // Appends what was made; true when all texts have ended.
  bool take(std::span<const std::int32_t> ids) {
    const auto& stops = generation_.stops;
    for (std::size_t row = 0; row < texts_.size(); ++row) {
      if (done_[row]) continue;
      done_[row] = std::find(stops.begin(), stops.end(), ids[row]) != stops.end();
      if (done_[row]) continue;
      texts_[row].push_back(ids[row]);
      done_[row] = on_token_ && !on_token_(first_ + row, ids[row]);
    }
    return std::find(done_.begin(), done_.end(), false) == done_.end();
  }

  // What was fed so far, at the right of each row.
  void fill_prompts(const std::array<View, 8>& to) const {
    const data::BatchSpans spans = batch_spans(to);
    const auto length = static_cast<std::size_t>(padded_);
    for (std::size_t row = 0; row < texts_.size(); ++row) {
      const std::span<const std::int32_t> ids = fed_[row];
      const std::size_t pad = length - ids.size();
      for (std::size_t i = 0; i < length; ++i) {
        const bool padding = i < pad;
        const std::size_t at = row * length + i;
        spans.ids[at] = padding ? 0 : ids[i - pad];
        spans.positions[at] = padding ? 0 : static_cast<std::int32_t>(i - pad);
        spans.document_start[at] = static_cast<std::int32_t>(padding ? i : pad);
      }
    }
    fill_row_ids(spans);
  }

  // The last token of each row; the caches hold what is before it.
  void fill_tokens(const std::array<View, 8>& to) const {
    const data::BatchSpans spans = batch_spans(to);
    for (std::size_t row = 0; row < texts_.size(); ++row) {
      spans.ids[row] = fed_[row].back();
      spans.positions[row] = static_cast<std::int32_t>(size_of_row(row) - 1);
      spans.document_start[row] = static_cast<std::int32_t>(padded_ + cached_ - size_of_row(row));
    }
    fill_row_ids(spans);
  }

  void fill_row_ids(const data::BatchSpans& spans) const {
    for (std::size_t row = 0; row < texts_.size(); ++row) {
      spans.row_ids[row] = static_cast<std::int32_t>(first_ + row);
    }
  }

  RankRun& run_;
  const Generation& generation_;
  std::span<const std::vector<std::int32_t>> prompts_;
  std::size_t first_;  // of all prompts
  const OnToken& on_token_;
  std::vector<std::vector<std::int32_t>> texts_{static_cast<std::size_t>(generation_.batch)};
  std::vector<bool> done_ = std::vector<bool>(texts_.size());
  std::vector<std::vector<std::int32_t>> fed_;  // prompts and what was made, by row
  std::int64_t padded_ = 0;                     // tokens of a row in the last prefill
  std::int64_t cached_ = 0;                     // tokens behind them in the caches
};

// Rows that may share a pass.
struct RowGroup {
  std::int64_t length = 0;  // they are padded to
  std::vector<std::int64_t> rows;
};

std::vector<RowGroup> group_rows(const Job& job, const data::RowSet& rows) {
  const std::int64_t multiple = job.request.data.pad_multiple;
  std::map<std::pair<std::int64_t, std::int64_t>, std::vector<std::int64_t>> alike;
  for (std::int64_t row = 0; row < rows.rows(); ++row) {
    const std::int64_t length = data::padded(rows.length(row), multiple);
    alike[{length, frequencies_of(job.model, rows, row)}].push_back(row);
  }
  std::vector<RowGroup> groups;
  for (auto& [key, members] : alike) groups.push_back({key.first, std::move(members)});
  return groups;
}

Result<Evaluation> evaluate_set(RankRun& run, const data::RowSet& rows,
                                const std::vector<RowGroup>& groups, std::int64_t batch) {
  Evaluation evaluation{.rows = rows.rows()};
  double sum = 0;
  for (const RowGroup& group : groups) {
    const std::size_t size = group.rows.size();
    for (std::size_t begin = 0; begin < size; begin += static_cast<std::size_t>(batch)) {
      const auto count = std::min(static_cast<std::size_t>(batch), size - begin);
      const auto chosen = std::span(group.rows).subspan(begin, count);
      std::int64_t targets = 0;
      const data::BatchShape shape{.micro_batch = batch, .length = group.length};
      const FillBatch fill = [&](std::int32_t, const std::array<View, 8>& to) {
        targets = data::make_batch(rows, chosen, shape, batch_spans(to));
      };
      const auto loss = run.evaluate(group.length, fill);
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

}  // namespace

Result<std::vector<Evaluation>> evaluate_rows(const Job& job, const Machine& machine,
                                              const Loader& loader,
                                              std::span<const data::RowSet> sets,
                                              std::int64_t batch) {
  std::vector<std::vector<RowGroup>> groups;
  std::set<std::int64_t> lengths;
  for (const data::RowSet& rows : sets) {
    groups.push_back(group_rows(job, rows));
    for (const RowGroup& group : groups.back()) lengths.insert(group.length);
  }
  std::vector<ProgramRequest> programs = {{.kind = ProgramKind::kLoad}};
  for (const std::int64_t length : lengths)
    programs.push_back({.kind = ProgramKind::kEvaluate, .rows = batch, .sequence = length});
  auto run = load(job, machine, loader, {.micro_batch = batch}, std::move(programs));
  if (!run) return run.error();
  std::vector<Evaluation> evaluations;
  for (std::size_t i = 0; i < sets.size(); ++i) {
    auto evaluation = evaluate_set(**run, sets[i], groups[i], batch);
    if (!evaluation) return evaluation.error();
    evaluations.push_back(*evaluation);
  }
  return evaluations;
}

Result<std::vector<std::vector<std::int32_t>>> generate(
    const Job& job, const Machine& machine, const Loader& loader,
    std::span<const std::vector<std::int32_t>> prompts, const Generation& generation,
    const OnToken& on_token) {
  const auto batch = static_cast<std::size_t>(generation.batch);
  std::set<std::int64_t> lengths;  // of padded batches
  for (std::size_t begin = 0; begin < prompts.size(); begin += batch) {
    std::int64_t longest = 0;
    for (const auto& prompt : prompts.subspan(begin, std::min(batch, prompts.size() - begin))) {
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
    lengths.insert(longest);
  }
  if (lengths.empty()) return std::vector<std::vector<std::int32_t>>{};
  const std::int64_t rows = generation.batch;
  std::int64_t cache = *lengths.rbegin() + round_up(generation.new_tokens, kPadding);
  // Texts that outgrow the first frequencies are read again with the others, see BatchGenerator.
  const std::int64_t outgrown = job.model.rope_switch() + 1;
  if (outgrown > 1 && cache >= outgrown) {
    lengths.insert(round_up(outgrown, kPadding));
    cache = std::max(cache, *lengths.rbegin()) + kPadding;
  }
  std::vector<ProgramRequest> programs = {
      {.kind = ProgramKind::kLoad, .cache = cache},
      {.kind = ProgramKind::kDecode, .rows = rows, .sequence = 1, .cache = cache}};
  for (const std::int64_t length : lengths) {
    programs.push_back(
        {.kind = ProgramKind::kPrefill, .rows = rows, .sequence = length, .cache = cache});
  }
  auto run = load(job, machine, loader, {.micro_batch = rows}, std::move(programs));
  if (!run) return run.error();
  std::vector<std::vector<std::int32_t>> texts;
  for (std::size_t begin = 0; begin < prompts.size(); begin += batch) {
    const auto some = prompts.subspan(begin, std::min(batch, prompts.size() - begin));
    auto made = BatchGenerator(**run, generation, some, begin, on_token).run();
    if (!made) return made.error();
    std::move(made->begin(), made->end(), std::back_inserter(texts));
  }
  return texts;
}

}  // namespace ftplan::executor

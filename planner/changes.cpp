#include "planner/changes.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/data_options.h"
#include "core/job.h"
#include "core/method.h"
#include "core/strategy.h"
#include "core/text.h"
#include "core/units.h"

namespace ftplan::planner {
namespace {

constexpr std::int64_t kSmallChunk = 64;
constexpr std::int64_t kShortest = 64;

struct Edit {
  std::string flag;
  std::string value;
  std::function<void(Change&)> apply;
};

// Rows longer than `seq` tokens are cut.
void cut_rows(std::vector<LengthCount>& lengths, std::int64_t tokens) {
  std::map<std::int64_t, std::int64_t> rows;
  for (const LengthCount& length : lengths) rows[std::min(length.tokens, tokens)] += length.rows;
  lengths.clear();
  for (const auto& [length, count] : rows) lengths.push_back({length, count});
}

Edit shorter_rows(std::int64_t seq) {
  return {"--seq", std::to_string(seq), [seq](Change& change) {
            change.request.data.seq = seq;
            if (!change.facts) return;
            const std::int64_t padded = round_up(seq, change.request.data.pad_multiple);
            change.facts->longest = std::min(change.facts->longest, seq);
            cut_rows(change.facts->lengths, padded);
            cut_rows(change.facts->validation_lengths, padded);
          }};
}

void add_layout_edits(const Job& job, std::vector<Edit>& edits) {
  if (job.request.layout.checkpointing && job.request.layout.checkpointing->every != 1) {
    edits.push_back({"--checkpointing", "full", [](Change& c) {
                       c.request.layout.checkpointing = Checkpointing{.every = 1};
                     }});
  }
  if (job.micro_batch_choices.back() > 1 && !job.request.training.update_in_backward) {
    edits.push_back({"--micro-batch", "1", [batch = job.global_batch](Change& c) {
                       c.request.training.micro_batch = 1;
                       c.request.training.accumulation.reset();
                       c.request.training.global_batch = batch;
                     }});
  }
  if (job.ranks() > 1 && job.zero_choices.back() == 0) {
    edits.push_back({"--zero", "1", [](Change& c) { c.request.layout.zero = 1; }});
  }
  const std::int64_t chunk = job.request.layout.loss_chunk.value_or(Strategy{}.loss_chunk);
  if (chunk > kSmallChunk) {
    edits.push_back({"--loss-chunk", std::to_string(kSmallChunk),
                     [](Change& c) { c.request.layout.loss_chunk = kSmallChunk; }});
  }
}

std::vector<Edit> edits_of(const Job& job) {
  std::vector<Edit> edits;
  add_layout_edits(job, edits);
  const std::vector<std::string>& names = linear_names(job.model.family);
  const bool fused = std::find(names.begin(), names.end(), "q_proj") == names.end();
  const std::vector<std::string> few = fused ? std::vector<std::string>{names.front()}
                                             : std::vector<std::string>{"q_proj", "v_proj"};
  const auto adapted = std::count_if(job.adapters.begin(), job.adapters.end(),
                                     [](const LoraShape& adapter) { return adapter.rank > 0; });
  if (job.lora() && adapted > static_cast<std::ptrdiff_t>(few.size())) {
    edits.push_back(
        {"--targets", join(few, ","), [few](Change& c) { c.request.method.targets = few; }});
  }
  for (std::int64_t seq = job.sequence / 2; seq >= kShortest; seq /= 2)
    edits.push_back(shorter_rows(seq));
  if (!job.lora()) {
    edits.push_back(
        {"--method", "lora", [](Change& c) { c.request.method.method = Method::kLora; }});
  }
  if (job.request.method.method != Method::kQlora && job.request.runtime == "ftplan") {
    edits.push_back(
        {"--method", "qlora", [](Change& c) { c.request.method.method = Method::kQlora; }});
  }
  return edits;
}

}  // namespace

std::vector<Change> shrinking_changes(const Job& job, const std::optional<DataFacts>& facts) {
  std::vector<Change> changes;
  for (const Edit& edit : edits_of(job)) {
    Change change{edit.flag + " " + edit.value, job.request, facts};
    edit.apply(change);
    changes.push_back(std::move(change));
  }
  return changes;
}

Change combine(const Job& job, const std::optional<DataFacts>& facts, std::size_t last) {
  const std::vector<Edit> edits = edits_of(job);
  Change change{"", job.request, facts};
  for (std::size_t i = 0; i <= last && i < edits.size(); ++i) {
    edits[i].apply(change);
    const bool replaced = i < last && i + 1 < edits.size() && edits[i + 1].flag == edits[i].flag;
    if (replaced) continue;
    change.flags += (change.flags.empty() ? "" : " ") + edits[i].flag + " " + edits[i].value;
  }
  return change;
}

}  // namespace ftplan::planner

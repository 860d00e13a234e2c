#include "data/data_set.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/data_options.h"
#include "core/enums.h"
#include "core/result.h"
#include "data/chat_template.h"
#include "data/document_cache.h"
#include "data/documents.h"
#include "data/instruction.h"
#include "data/mix.h"
#include "data/pad_token.h"
#include "data/permutation.h"
#include "data/rows.h"
#include "data/sampler.h"
#include "data/source.h"
#include "data/tokens_json.h"

namespace ftplan::data {
namespace {

constexpr std::int64_t kDefaultSeq = 2048;
// Keeps the choice of held-out documents apart from the sampler's orders.
constexpr std::uint64_t kSplitKey = 0x76616C6964617465U;

struct Read {
  Documents documents;
  bool from_cache = false;
};

Result<InstructionTemplate> instruction_template(const std::string& file, DataFormat format) {
  if (!ChatTemplate::is_known(file)) return InstructionTemplate::load(file);
  return bad_input("--template", file + " is for conversations, but the data holds " +
                                     to_text(format) + ", which takes a file");
}

Result<ReadOptions> read_options(const DataOptions& options, DataFormat format,
                                 const DataContext& context) {
  ReadOptions how{.train_on_prompt = options.train_on_prompt};
  const auto& given = options.prompt_template;
  if (format == DataFormat::kChat) {
    const auto name = given ? Result<std::string>(*given) : find_chat_template(context.folder);
    if (!name) return name.error();
    auto chat = ChatTemplate::named(*name, *context.tokenizer);
    if (!chat) return chat.error();
    how.chat = *std::move(chat);
  } else if (is_instruction_format(format)) {
    auto instruction = given ? instruction_template(*given, format)
                             : Result(InstructionTemplate::of_format(format));
    if (!instruction) return instruction.error();
    how.instruction = *std::move(instruction);
  } else if (given) {
    return bad_input("--template",
                     std::string("is for instructions and conversations, but the data holds ") +
                         to_text(format));
  }
  return how;
}

Result<Read> read_all(std::span<const SourceFile> sources, const DataOptions& options,
                      const DataContext& context) {
  Read read;
  if (sources.front().format == DataFormat::kTokens) {
    for (const SourceFile& source : sources) {
      if (auto ok = read_tokens(source, read.documents); !ok) return ok.error();
    }
    return read;
  }
  if (context.tokenizer == nullptr) {
    return bad_input(sources.front().path,
                     "holds " + std::string(to_text(sources.front().format)) +
                         ", which needs a tokenizer: give a model folder that has one, or data as "
                         "tokens");
  }
  const auto how = read_options(options, sources.front().format, context);
  if (!how) return how.error();
  const DocumentCache cache(context.cache_folder, sources, *context.tokenizer, *how);
  if (auto found = cache.find()) {
    read.documents = *std::move(found);
    read.from_cache = true;
    return read;
  }
  auto documents = read_documents(sources, *context.tokenizer, *how);
  if (!documents) return documents.error();
  read.documents = *std::move(documents);
  // A cache that cannot be written costs time later and nothing now.
  static_cast<void>(cache.store(read.documents));
  return read;
}

Result<void> check_ids(const Documents& documents, std::span<const SourceFile> sources,
                       const DataContext& context) {
  const std::int64_t vocabulary = context.vocabulary;
  if (vocabulary == 0) return {};
  const bool tokenized_here = sources.front().format != DataFormat::kTokens;
  const auto outside = [&](std::int32_t id) { return id >= vocabulary; };
  for (const auto* values : {&documents.ids, &documents.labels}) {
    const auto found = std::ranges::find_if(*values, outside);
    if (found == values->end()) continue;
    const auto after = std::ranges::upper_bound(documents.ends, found - values->begin());
    const std::int64_t document = after - documents.ends.begin();
    return bad_input(
        document_place(documents, sources, document),
        "token " + std::to_string(found - values->begin() - documents.begin(document)) +
            " has the id " + std::to_string(*found) + ", but the model has " +
            std::to_string(vocabulary) +
            (tokenized_here ? " ids: --pad-vocabulary-to 1 gives it a row for each of the tokenizer"
                            : " ids: the data was tokenized for another model"));
  }
  return {};
}

// The document numbers of both sides, ascending.
struct Split {
  std::vector<std::int64_t> training;
  std::vector<std::int64_t> held_out;
};

Split split(std::int64_t documents, double share, std::int64_t seed) {
  Split sides;
  const auto wanted = std::llround(share * static_cast<double>(documents));
  // A share above 0 holds out something, and something is always left to learn from.
  const std::int64_t held_out =
      share > 0 ? std::clamp<std::int64_t>(wanted, std::min<std::int64_t>(1, documents - 1),
                                           documents - 1)
                : 0;
  const Permutation order(documents, mix64(static_cast<std::uint64_t>(seed)) ^ kSplitKey);
  for (std::int64_t document = 0; document < documents; ++document) {
    const bool is_held_out = held_out > 0 && order(document) < held_out;
    (is_held_out ? sides.held_out : sides.training).push_back(document);
  }
  return sides;
}

// Those of `documents`, which ascend, from `first` to before `last`.
std::span<const std::int64_t> part_of(std::span<const std::int64_t> documents, std::int64_t first,
                                      std::int64_t last) {
  const auto begin = std::ranges::lower_bound(documents, first);
  return {begin, std::ranges::lower_bound(documents, last)};
}

}  // namespace

Result<std::int64_t> resolve_seq(const DataOptions& options, std::int64_t positions) {
  if (!options.seq) return positions > 0 ? std::min(positions, kDefaultSeq) : kDefaultSeq;
  if (positions > 0 && *options.seq > positions) {
    return bad_input("--seq", "got " + std::to_string(*options.seq) + ", but the model has " +
                                  std::to_string(positions) + " positions: give at most that");
  }
  return *options.seq;
}

Result<DataSet> load_data(const DataOptions& options, const DataContext& context) {
  const auto seq = resolve_seq(options, context.positions);
  if (!seq) return seq.error();
  if (!options.weights.empty() && options.weights.size() != options.data.size()) {
    return bad_input("--weights", "got " + std::to_string(options.weights.size()) + " for " +
                                      std::to_string(options.data.size()) +
                                      " files of --data: give one for each");
  }
  const auto sources = open_sources(options.data, options.format);
  if (!sources) return sources.error();
  const auto read = read_all(*sources, options, context);
  if (!read) return read.error();
  const Documents& documents = read->documents;
  if (documents.count() == 0) return bad_input(sources->front().path, "holds no records");
  if (auto checked = check_ids(documents, *sources, context); !checked) {
    return checked.error();
  }

  const DataFormat format = sources->front().format;
  const Split sides = split(documents.count(), options.validation, context.seed);
  const PackOptions how{
      .seq = *seq, .packing = options.packing, .keep_unlearned = format == DataFormat::kTokens};
  Packed training;
  Packed validation;
  std::vector<SourceCounts> counts;
  std::vector<DrawnRows> drawn;
  for (std::size_t file = 0; file < sources->size(); ++file) {
    const std::int64_t first = file == 0 ? 0 : documents.file_ends[file - 1];
    const std::int64_t last = documents.file_ends[file];
    const RowSet& rows = training.rows;
    const std::int64_t rows_before = rows.rows();
    training = pack(documents, part_of(sides.training, first, last), how, std::move(training));
    const auto held_out = part_of(sides.held_out, first, last);
    validation = pack(documents, held_out, how, std::move(validation));
    const double weight = options.weights.empty() ? 1 : options.weights[file];
    drawn.push_back(drawn_rows(rows.rows() - rows_before, weight));
    counts.push_back({.path = (*sources)[file].path,
                      .weight = weight,
                      .documents = last - first,
                      .held_out = static_cast<std::int64_t>(held_out.size()),
                      .rows = drawn.back().rows,
                      .drawn_rows = drawn.back().draws});
    for (std::int64_t row = rows_before; row < rows.rows(); ++row) {
      counts.back().tokens += rows.length(row);
      counts.back().target_tokens += rows.targets[static_cast<std::size_t>(row)];
    }
  }
  if (training.rows.rows() == 0) {
    return bad_input(sources->front().path,
                     "leaves nothing to learn from: all " + std::to_string(training.dropped) +
                         " training documents have no label within --seq " + std::to_string(*seq));
  }
  DataSet set{
      .format = format,
      .seq = *seq,
      .training = std::move(training.rows),
      .validation = std::move(validation.rows),
      .facts = {},
      .counts = {.documents = documents.count(),
                 .held_out = static_cast<std::int64_t>(sides.held_out.size()),
                 .truncated = training.truncated + validation.truncated,
                 .truncated_tokens = training.truncated_tokens + validation.truncated_tokens,
                 .dropped = training.dropped + validation.dropped},
      .sources = std::move(counts),
      .drawn = {},
      .from_cache = read->from_cache,
      .pad = find_pad_token(context.tokenizer, context.vocabulary)};
  set.training.pad = set.validation.pad = set.pad.id;
  set.facts = facts_of(set.training, set.validation, options.pad_multiple);
  if (!options.weights.empty()) {
    set.drawn = std::move(drawn);
    set.facts.drawn_rows = 0;
    for (const DrawnRows& part : set.drawn) *set.facts.drawn_rows += part.draws;
  }
  return set;
}

}  // namespace ftplan::data

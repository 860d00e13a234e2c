#include "data/description.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iomanip>
#include <ios>
#include <ostream>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "core/data_options.h"
#include "core/enums.h"
#include "core/text.h"
#include "data/data_set.h"
#include "data/documents.h"
#include "data/pad_token.h"
#include "data/rows.h"
#include "data/tokenizer.h"

namespace ftplan::data {
namespace {

constexpr std::size_t kShownBytes = 600;  // of a part, half from its start and half from its end
constexpr std::int64_t kBar = 40;
constexpr int kLabelWidth = 12;

std::string text_of(std::span<const std::int32_t> ids, const Tokenizer* tokenizer) {
  if (tokenizer != nullptr) return tokenizer->decode(ids, SpecialText::kShow);
  std::vector<std::string> numbers;
  for (const std::int32_t id : ids) numbers.push_back(std::to_string(id));
  return join(numbers, " ");
}

Sample sample_of(const RowSet& rows, std::int64_t row, const Tokenizer* tokenizer) {
  Sample sample{.row = row,
                .tokens = rows.length(row),
                .target_tokens = rows.targets[static_cast<std::size_t>(row)],
                .documents = rows.documents_in(row),
                .parts = {}};
  const auto ids = rows.part_of(rows.ids, row);
  const auto labels = rows.part_of(rows.labels, row);
  rows.for_each_document(row, [&](std::int64_t begin, std::int64_t end) {
    // A document's first token is the target of nothing.
    const auto learned = [&](std::int64_t t) {
      return t > begin && labels[static_cast<std::size_t>(t)] != kNoLabel;
    };
    for (std::int64_t from = begin; from < end;) {
      std::int64_t to = from + 1;
      while (to < end && learned(to) == learned(from)) ++to;
      const auto part =
          ids.subspan(static_cast<std::size_t>(from), static_cast<std::size_t>(to - from));
      sample.parts.push_back({learned(from), to - from, text_of(part, tokenizer)});
      from = to;
    }
  });
  return sample;
}

double ratio(std::int64_t part, std::int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

std::string percent(double share) { return format_fixed(100 * share, 1) + " %"; }

// UTF-8 continues in this byte, so a text must not be cut before it.
bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

std::string shortened(const std::string& text) {
  if (text.size() <= kShownBytes) return text;
  std::size_t head = kShownBytes / 2;
  std::size_t tail = text.size() - kShownBytes / 2;
  while (head > 0 && continues(text[head])) --head;
  while (tail < text.size() && continues(text[tail])) ++tail;
  return text.substr(0, head) + " [...] " + text.substr(tail);
}

// Under a margin that says whether it is learned; control characters must not reach the terminal.
std::string with_margin(const std::string& text, const char* margin) {
  std::string shown = margin;
  for (const char c : text) {
    if (c == '\n') {
      shown += std::string("\n") + margin;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      shown += (byte < 0x20 && c != '\t') || byte == 0x7F ? '.' : c;
    }
  }
  return shown + '\n';
}

void add_line(std::ostream& out, const char* label, const std::string& text) {
  out << std::left << std::setw(kLabelWidth) << label << text << '\n';
}

std::string padding_text(const DataDescription& description) {
  const std::string id = std::to_string(description.pad.id);
  const std::string token = description.pad_text.empty()
                                ? "id " + id
                                : "\"" + description.pad_text + "\" (id " + id + ")";
  switch (description.pad.reason) {
    case PadReason::kNamed:
      return token + ", the tokenizer's pad token; learned by nothing, seen by nothing";
    case PadReason::kNoneNamed:
      return token +
             ", the end of a text, as the tokenizer names no pad token; ends of texts are "
             "learned all the same";
    case PadReason::kOutside:
      return token +
             ", the end of a text, as the model has no row for the pad token; ends of "
             "texts are learned all the same";
    case PadReason::kNoTokenizer:
      break;
  }
  return token + ", as there is no pad token; learned by nothing, seen by nothing";
}

void add_lengths(std::ostream& out, const std::vector<LengthCount>& lengths) {
  std::int64_t most = 1;
  for (const LengthCount& length : lengths) most = std::max(most, length.rows);
  const char* label = "lengths";
  for (const LengthCount& length : lengths) {
    const auto bar = static_cast<std::size_t>((length.rows * kBar + most - 1) / most);
    std::ostringstream line;
    line << std::right << std::setw(6) << length.tokens << std::setw(10) << length.rows << " rows "
         << std::string(bar, '#');
    add_line(out, std::exchange(label, ""), line.str());
  }
}

// A line a file.
void add_sources(std::ostream& out, const DataDescription& description) {
  const char* label = "files";
  for (const SourceCounts& source : description.sources) {
    std::string line = std::to_string(source.documents) + " documents, " +
                       std::to_string(source.held_out) + " held out; " +
                       std::to_string(source.rows) + " rows, " + std::to_string(source.tokens) +
                       " tokens, " + std::to_string(source.target_tokens) + " learned";
    if (description.facts.drawn_rows) {
      line += "; " + format_number(source.weight) + " x: " + std::to_string(source.drawn_rows) +
              " rows an epoch";
    }
    add_line(out, std::exchange(label, ""), line + "  " + source.path);
  }
  if (description.facts.drawn_rows) {
    add_line(out, "epoch", std::to_string(*description.facts.drawn_rows) + " rows");
  }
}

void add_sample(std::ostream& out, const Sample& sample) {
  out << "\nrow " << sample.row << ": " << sample.tokens << " tokens, " << sample.target_tokens
      << " learned (marked >)\n";
  for (const SamplePart& part : sample.parts) {
    out << with_margin(shortened(part.text), part.learned ? "  > " : "  | ");
  }
}

}  // namespace

DataDescription describe(const DataSet& set, Packing packing, const Tokenizer* tokenizer,
                         std::int64_t samples) {
  std::int64_t positions = 0;
  for (const LengthCount& length : set.facts.lengths) positions += length.tokens * length.rows;
  // Documents that run together are not told apart in rows; they are counted before packing.
  const std::int64_t documents =
      packing == Packing::kConcat ? set.counts.documents - set.counts.held_out
                                  : static_cast<std::int64_t>(set.training.document_starts.size());
  DataDescription description{.format = set.format,
                              .packing = packing,
                              .seq = set.seq,
                              .documents = set.counts.documents,
                              .held_out = set.counts.held_out,
                              .truncated = set.counts.truncated,
                              .truncated_tokens = set.counts.truncated_tokens,
                              .dropped = set.counts.dropped,
                              .documents_per_row = ratio(documents, set.facts.rows),
                              .efficiency = ratio(set.facts.tokens, positions),
                              .from_cache = set.from_cache,
                              .pad = set.pad,
                              .pad_text = tokenizer == nullptr ? "" : tokenizer->piece(set.pad.id),
                              .facts = set.facts,
                              .sources = set.sources,
                              .samples = {}};
  for (std::int64_t row = 0; row < std::min(samples, set.training.rows()); ++row) {
    description.samples.push_back(sample_of(set.training, row, tokenizer));
  }
  return description;
}

std::string render(const DataDescription& description) {
  const DataFacts& facts = description.facts;
  std::ostringstream out;
  add_line(out, "documents",
           std::to_string(description.documents) + " (" + std::string(to_text(description.format)) +
               (description.from_cache ? ", tokens from the cache)" : ")") + ", " +
               std::to_string(description.held_out) + " held out");
  add_line(out, "rows",
           std::to_string(facts.rows) + " to learn from, " + std::to_string(facts.validation_rows) +
               " held out, longest " + std::to_string(facts.longest) + " of " +
               std::to_string(description.seq) + " tokens");
  add_line(out, "tokens",
           std::to_string(facts.tokens) + ", " + std::to_string(facts.target_tokens) +
               " learned (" + percent(ratio(facts.target_tokens, facts.tokens)) + ")");
  add_line(out, "packing",
           std::string(to_text(description.packing)) + ": " +
               format_fixed(description.documents_per_row, 2) + " documents a row; " +
               percent(description.efficiency) + " of the padded positions hold tokens");
  add_line(out, "truncated",
           std::to_string(description.truncated) + " documents, " +
               std::to_string(description.truncated_tokens) + " tokens lost");
  add_line(out, "dropped", std::to_string(description.dropped) + " with nothing to learn in them");
  add_line(out, "padding", padding_text(description));
  if (description.sources.size() > 1 || facts.drawn_rows) add_sources(out, description);
  add_lengths(out, facts.lengths);
  for (const Sample& sample : description.samples) add_sample(out, sample);
  return out.str();
}

}  // namespace ftplan::data

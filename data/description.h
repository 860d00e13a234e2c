#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "core/data_options.h"
#include "core/fields.h"
#include "data/data_set.h"
#include "data/pad_token.h"
#include "data/tokenizer.h"

/// What the data has become, for people and as JSON.
namespace ftplan::data {

/// Successive tokens of a row that are all learned, or all not.
struct SamplePart {
  bool learned = false;
  std::int64_t tokens = 0;
  std::string text;  ///< special tokens shown; ids where there is no tokenizer
};

/// One row of the training set.
struct Sample {
  std::int64_t row = 0;
  std::int64_t tokens = 0;
  std::int64_t target_tokens = 0;
  std::int64_t documents = 0;
  std::vector<SamplePart> parts;  ///< none crosses a document
};

struct DataDescription {
  DataFormat format = DataFormat::kText;
  Packing packing = Packing::kNone;
  std::int64_t seq = 0;
  std::int64_t documents = 0;
  std::int64_t held_out = 0;
  std::int64_t truncated = 0;
  std::int64_t truncated_tokens = 0;
  std::int64_t dropped = 0;
  double documents_per_row = 0;
  double efficiency = 0;  ///< training tokens / positions when each row is padded for itself
  bool from_cache = false;
  PadToken pad;
  std::string pad_text;  ///< the token as the vocabulary spells it; empty without a tokenizer
  DataFacts facts;
  std::vector<SourceCounts> sources;
  std::vector<Sample> samples;
};

/// Describes `set` with its first `samples` training rows. @param tokenizer may be null
DataDescription describe(const DataSet& set, Packing packing, const Tokenizer* tokenizer,
                         std::int64_t samples);

/// A page of text; long parts of samples are shortened.
std::string render(const DataDescription& description);

}  // namespace ftplan::data

namespace ftplan {

template <>
inline constexpr auto fields<data::SourceCounts> = std::tuple{
    Field{"path", &data::SourceCounts::path, "The file."},
    Field{"weight", &data::SourceCounts::weight, "How often an epoch goes over it."},
    Field{"documents", &data::SourceCounts::documents, "Documents in it."},
    Field{"held_out", &data::SourceCounts::held_out, "Those held out."},
    Field{"rows", &data::SourceCounts::rows, "Training rows of it."},
    Field{"drawn_rows", &data::SourceCounts::drawn_rows, "Rows of it in an epoch."},
    Field{"tokens", &data::SourceCounts::tokens, "Tokens in its training rows."},
    Field{"target_tokens", &data::SourceCounts::target_tokens, "Those that are targets."}};
template <>
inline constexpr auto fields<data::SamplePart> =
    std::tuple{Field{"learned", &data::SamplePart::learned, "Whether the tokens are targets."},
               Field{"tokens", &data::SamplePart::tokens, "Tokens in the part."},
               Field{"text", &data::SamplePart::text, "Their text."}};
template <>
inline constexpr auto fields<data::Sample> = std::tuple{
    Field{"row", &data::Sample::row, "Training row, from 0."},
    Field{"tokens", &data::Sample::tokens, "Tokens in the row."},
    Field{"target_tokens", &data::Sample::target_tokens, "Those that are targets."},
    Field{"documents", &data::Sample::documents, "Documents that do not see each other."},
    Field{"parts", &data::Sample::parts, "Its text, cut where learning begins or ends."}};
template <>
inline constexpr auto fields<data::DataDescription> = std::tuple{
    Field{"format", &data::DataDescription::format, "What the files hold."},
    Field{"packing", &data::DataDescription::packing, "How documents share rows."},
    Field{"seq", &data::DataDescription::seq, "Longest row allowed."},
    Field{"documents", &data::DataDescription::documents, "Documents in the files."},
    Field{"held_out", &data::DataDescription::held_out, "Documents held out."},
    Field{"truncated", &data::DataDescription::truncated, "Documents longer than seq."},
    Field{"truncated_tokens", &data::DataDescription::truncated_tokens, "Tokens they lost."},
    Field{"dropped", &data::DataDescription::dropped, "Documents with nothing to learn, left out."},
    Field{"documents_per_row", &data::DataDescription::documents_per_row, "Documents in a row."},
    Field{"efficiency", &data::DataDescription::efficiency,
          "Tokens over positions when each row is padded for itself."},
    Field{"from_cache", &data::DataDescription::from_cache, "Tokens were found in the cache."},
    Field{"pad", &data::DataDescription::pad, "What fills batches behind shorter rows."},
    Field{"pad_text", &data::DataDescription::pad_text, "The same as text."},
    Field{"facts", &data::DataDescription::facts, "What a plan knows of the data."},
    Field{"sources", &data::DataDescription::sources, "The files one by one."},
    Field{"samples", &data::DataDescription::samples, "The first training rows."}};

}  // namespace ftplan

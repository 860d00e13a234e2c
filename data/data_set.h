#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/data_options.h"
#include "core/result.h"
#include "data/pad_token.h"
#include "data/rows.h"
#include "data/sampler.h"
#include "data/tokenizer.h"

/// From files to rows: the one way in for planning, running and showing.
namespace ftplan::data {

/// The model's side of the data.
struct DataContext {
  const Tokenizer* tokenizer = nullptr;  ///< may be missing for `tokens` data
  std::string folder;                    ///< of the tokenizer: its files name the chat template
  std::int64_t positions = 0;            ///< the model's; 0: unlimited
  std::int64_t vocabulary = 0;           ///< rows of its embedding table; 0: not checked
  std::int64_t seed = 0;                 ///< decides which documents are held out
  std::string cache_folder;              ///< of the user; empty: nothing is stored
};

/// What happened to the documents on the way.
struct DataCounts {
  std::int64_t documents = 0;
  std::int64_t held_out = 0;          ///< documents in the validation rows
  std::int64_t truncated = 0;         ///< documents that were longer than `seq`
  std::int64_t truncated_tokens = 0;  ///< what they lost
  std::int64_t dropped = 0;           ///< left out, as nothing in them is learned

  friend bool operator==(const DataCounts&, const DataCounts&) = default;
};

/// One file of the data.
struct SourceCounts {
  std::string path;
  double weight = 1;
  std::int64_t documents = 0;
  std::int64_t held_out = 0;    ///< of the documents
  std::int64_t rows = 0;        ///< training rows; no row holds documents of two files
  std::int64_t drawn_rows = 0;  ///< of them in an epoch, repeated ones counted again
  std::int64_t tokens = 0;
  std::int64_t target_tokens = 0;

  friend bool operator==(const SourceCounts&, const SourceCounts&) = default;
};

struct DataSet {
  DataFormat format = DataFormat::kText;
  std::int64_t seq = 0;  ///< longest row that was allowed
  RowSet training;
  RowSet validation;
  DataFacts facts;
  DataCounts counts;
  std::vector<SourceCounts> sources;
  std::vector<DrawnRows> drawn;  ///< for the sampler; empty without weights: each row once
  bool from_cache = false;       ///< tokens were found in the cache folder
  PadToken pad;                  ///< of both row sets
};

/// `options.seq`, or its default for a model of that many positions (0: unlimited).
/// @error bad input: more than the model's positions
Result<std::int64_t> resolve_seq(const DataOptions& options, std::int64_t positions);

/// Reads, tokenizes, splits, truncates and packs, file by file. The same files, options, tokenizer
/// and seed give the same rows everywhere.
/// @error bad input that names file and record; no training rows left
Result<DataSet> load_data(const DataOptions& options, const DataContext& context);

}  // namespace ftplan::data

#pragma once

#include <string>

#include "core/result.h"
#include "data/documents.h"
#include "data/rows.h"
#include "data/source.h"

/// `tokens` data: `{"input_ids": [[...], ...], "labels": [[...], ...]}`.
namespace ftplan::data {

/// Appends the rows of `source` as documents; without labels each token is learned. Memory is that
/// of the ids.
/// @error bad input that names file and row: a column missing or unknown, something that is no id,
/// an empty row, ids and labels of different length
Result<void> read_tokens(const SourceFile& source, Documents& documents);

/// Writes rows so that `read_tokens` gives them back: one sequence a row; of rows that isolate
/// their documents, one a document.
/// @error run failed, naming the path
Result<void> write_tokens(const RowSet& rows, const std::string& path);

}  // namespace ftplan::data

#pragma once

#include <string>
#include <vector>

#include "core/result.h"
#include "data/tokenizer.h"

/// The files of a tokenizer, written for transformers.
namespace ftplan::data {

/// Whether the folder has a tokenizer.json or a tokenizer.model.
bool has_tokenizer(const std::string& folder);

/// Copies what makes the tokenizer of `source.folder`, with its chat template, into `folder`, with
/// the tokens of `source.added` in it: transformers gives a text the same ids as `tokenizer` does.
/// @param tokenizer what `load_tokenizer(source)` gave
/// @error bad input: a file that cannot be read; run failed: one that cannot be written
Result<void> save_tokenizer(const TokenizerSource& source, const Tokenizer& tokenizer,
                            const std::string& folder);

}  // namespace ftplan::data

#pragma once

#include <memory>

#include "core/result.h"
#include "data/tokenizer.h"
#include "data/tokenizer_json.h"
#include "data/tokenizer_settings.h"

namespace ftplan::data {

/// The tokenizer that a tokenizer.json describes, with the named tokens of the files beside it.
/// @error bad input: the parts contradict each other
Result<std::unique_ptr<Tokenizer>> make_bpe_tokenizer(TokenizerParts parts,
                                                      const TokenizerSettings& settings);

}  // namespace ftplan::data

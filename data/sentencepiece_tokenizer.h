#pragma once

#include <memory>
#include <string>

#include "core/result.h"
#include "data/tokenizer.h"
#include "data/tokenizer_settings.h"

namespace ftplan::data {

/// A SentencePiece `tokenizer.model` with the conventions of Llama 2: BOS before the text unless
/// tokenizer_config.json says otherwise; special tokens that stand in the text become their ids; a
/// text after one of them gets no space in front of it unless `legacy` is set.
/// @source transformers `LlamaTokenizer` with a SentencePiece back end, legacy=False
/// @error bad input that names the file
Result<std::unique_ptr<Tokenizer>> load_sentencepiece_tokenizer(const std::string& path,
                                                                const TokenizerSettings& settings);

}  // namespace ftplan::data

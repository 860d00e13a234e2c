#pragma once

#include <array>

namespace ftplan {

/// The files in a model folder that make its tokenizer, with its chat template.
inline constexpr std::array kTokenizerFiles = {"tokenizer.json",
                                               "tokenizer.model",
                                               "tokenizer_config.json",
                                               "added_tokens.json",
                                               "special_tokens_map.json",
                                               "chat_template.jinja",
                                               "vocab.json",
                                               "merges.txt"};

}  // namespace ftplan

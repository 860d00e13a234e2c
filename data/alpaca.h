#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace ftplan::data {

/// What the model is asked, and what it should say.
struct PromptAndAnswer {
  std::string prompt;
  std::string answer;
};

/// Reads one Alpaca record, `{"instruction", "input", "output"}`; a missing or empty input selects
/// the prompt without one. Other keys are ignored.
/// @source prompts: tatsu-lab/stanford_alpaca, train.py, PROMPT_DICT
/// @error bad input at `where`
Result<PromptAndAnswer> read_alpaca(std::string_view record, const std::string& where);

}  // namespace ftplan::data

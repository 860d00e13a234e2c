#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/data_options.h"
#include "core/result.h"

/// Records of an instruction and what should be said to it.
namespace ftplan::data {

/// One record; `input` is empty where the instruction has none.
struct Instruction {
  std::string instruction;
  std::string input;
  std::string response;
};

/// Reads a record of an instruction format; other keys are ignored, such as Dolly's category.
///
/// alpaca   instruction, input (may be missing, null or empty), output
/// dolly    instruction, context (the same), response
/// @error bad input at `where`
Result<Instruction> read_instruction(std::string_view record, DataFormat format,
                                     const std::string& where);

/// Whether records of this format are instructions.
bool is_instruction_format(DataFormat format);

/// What the model is asked, and what it should say.
struct PromptAndAnswer {
  std::string prompt;
  std::string answer;
};

/// How an instruction becomes text: `{instruction}`, `{input}` and `{response}` in it are replaced,
/// `{{` and `}}` are braces. What stands before `{response}` is the prompt, the rest is the answer.
class InstructionTemplate {
 public:
  /// The published template of a format, one for records with an input and one for those without.
  /// @source alpaca: tatsu-lab/stanford_alpaca, train.py, PROMPT_DICT
  /// @source dolly: databrickslabs/dolly, training/consts.py, PROMPT_WITH_INPUT_FORMAT and
  /// PROMPT_NO_INPUT_FORMAT
  /// @pre is_instruction_format(format)
  static InstructionTemplate of_format(DataFormat format);

  /// The template in a file, for records with and without input; one line end at its end is not
  /// part of it.
  /// @error bad input that names file, line and column: a field that is not known, a brace alone;
  /// not one {response}, no {instruction}
  static Result<InstructionTemplate> load(const std::string& path);

  /// @error bad input at `where`: an input that the template has no place for
  [[nodiscard]] Result<PromptAndAnswer> fill(const Instruction& record,
                                             const std::string& where) const;
  /// Of all that decides what a record becomes.
  [[nodiscard]] std::string digest() const;

 private:
  enum class Slot : std::uint8_t { kInstruction, kInput, kResponse, kEnd };
  // Text and the slot behind it.
  struct Part {
    std::string text;
    Slot slot = Slot::kEnd;
  };
  using Parts = std::vector<Part>;

  static Result<Parts> parse(std::string_view text, const std::string& where);

  Parts with_input_;
  Parts without_input_;
};

}  // namespace ftplan::data

#include "data/alpaca.h"

#include <string>
#include <string_view>
#include <utility>

#include "core/json.h"
#include "core/result.h"

namespace ftplan::data {
namespace {

constexpr std::string_view kWithInput =
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n";
constexpr std::string_view kWithoutInput =
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n";

std::string prompt_of(const std::string& instruction, const std::string& input) {
  std::string prompt(input.empty() ? kWithoutInput : kWithInput);
  prompt += "### Instruction:\n" + instruction + "\n\n";
  if (!input.empty()) prompt += "### Input:\n" + input + "\n\n";
  return prompt + "### Response:";
}

Result<std::string> text_of(const Json& record, const std::string& where, const char* key) {
  const auto found = record.find(key);
  if (found == record.end()) {
    return bad_input(where, std::string("has no \"") + key +
                                "\"; an Alpaca record has instruction, input (may be left out) "
                                "and output");
  }
  return read_value<std::string>(*found, where + "#/" + key, Missing::kIsAnError);
}

}  // namespace

Result<PromptAndAnswer> read_alpaca(std::string_view record, const std::string& where) {
  const auto json = parse_json(record, where);
  if (!json) return json.error();
  if (!json->is_object()) return bad_input(where, "expected an object with instruction and output");
  auto instruction = text_of(*json, where, "instruction");
  if (!instruction) return instruction.error();
  const auto input_entry = json->find("input");
  const bool has_input = input_entry != json->end() && !input_entry->is_null();
  auto input = has_input ? text_of(*json, where, "input") : Result<std::string>(std::string());
  if (!input) return input.error();
  auto output = text_of(*json, where, "output");
  if (!output) return output.error();
  return PromptAndAnswer{prompt_of(*instruction, *input), *std::move(output)};
}

}  // namespace ftplan::data

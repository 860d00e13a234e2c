#include "data/instruction.h"

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "core/check.h"
#include "core/data_options.h"
#include "core/digest.h"
#include "core/enums.h"
#include "core/json.h"
#include "core/result.h"

namespace ftplan::data {
namespace {

// The keys of a format, and its two templates.
struct Form {
  DataFormat format;
  const char* input;
  const char* response;
  std::string_view with_input;
  std::string_view without_input;
};

constexpr std::array kForms{
    Form{DataFormat::kAlpaca, "input", "output",
         "Below is an instruction that describes a task, paired with an input that provides "
         "further context. Write a response that appropriately completes the request.\n\n"
         "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:{response}",
         "Below is an instruction that describes a task. "
         "Write a response that appropriately completes the request.\n\n"
         "### Instruction:\n{instruction}\n\n### Response:{response}"},
    Form{DataFormat::kDolly, "context", "response",
         "Below is an instruction that describes a task. "
         "Write a response that appropriately completes the request.\n\n"
         "### Instruction:\n{instruction}\n\nInput:\n{input}\n\n"
         "### Response:\n{response}\n\n### End",
         "Below is an instruction that describes a task. "
         "Write a response that appropriately completes the request.\n\n"
         "### Instruction:\n{instruction}\n\n### Response:\n{response}\n\n### End"}};

const Form* find_form(DataFormat format) {
  for (const Form& form : kForms) {
    if (form.format == format) return &form;
  }
  return nullptr;
}

const Form& form_of(DataFormat format) {
  const Form* form = find_form(format);
  FTPLAN_CHECK(form != nullptr);
  return *form;
}

std::string keys_of(const Form& form) {
  return "a record of " + std::string(to_text(form.format)) + " has instruction, " + form.input +
         " (may be left out) and " + form.response;
}

Result<std::string> text_of(const Json& record, const Form& form, const std::string& where,
                            const char* key) {
  const auto found = record.find(key);
  if (found == record.end()) {
    return bad_input(where, std::string("has no \"") + key + "\"; " + keys_of(form));
  }
  return read_value<std::string>(*found, where + "#/" + key, Missing::kIsAnError);
}

}  // namespace

bool is_instruction_format(DataFormat format) { return find_form(format) != nullptr; }

Result<Instruction> read_instruction(std::string_view record, DataFormat format,
                                     const std::string& where) {
  const Form& form = form_of(format);
  const auto json = parse_json(record, where);
  if (!json) return json.error();
  if (!json->is_object()) return bad_input(where, "expected an object: " + keys_of(form));
  auto instruction = text_of(*json, form, where, "instruction");
  if (!instruction) return instruction.error();
  const auto entry = json->find(form.input);
  const bool has_input = entry != json->end() && !entry->is_null();
  auto input = has_input ? text_of(*json, form, where, form.input) : Result<std::string>("");
  if (!input) return input.error();
  auto response = text_of(*json, form, where, form.response);
  if (!response) return response.error();
  return Instruction{*std::move(instruction), *std::move(input), *std::move(response)};
}

InstructionTemplate InstructionTemplate::of_format(DataFormat format) {
  const Form& form = form_of(format);
  InstructionTemplate made;
  made.with_input_ = parse(form.with_input);
  made.without_input_ = parse(form.without_input);
  return made;
}

InstructionTemplate::Parts InstructionTemplate::parse(std::string_view text) {
  constexpr std::array kSlots{std::pair{std::string_view("{instruction}"), Slot::kInstruction},
                              std::pair{std::string_view("{input}"), Slot::kInput},
                              std::pair{std::string_view("{response}"), Slot::kResponse}};
  Parts parts(1);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t before = parts.size();
    for (const auto& [spelling, slot] : kSlots) {
      if (!text.substr(at).starts_with(spelling)) continue;
      parts.back().slot = slot;
      parts.emplace_back();
      at += spelling.size();
      break;
    }
    if (parts.size() == before) parts.back().text += text[at++];
  }
  return parts;
}

PromptAndAnswer InstructionTemplate::fill(const Parts& parts, const Instruction& record) {
  PromptAndAnswer filled;
  std::string* out = &filled.prompt;
  for (const Part& part : parts) {
    *out += part.text;
    if (part.slot == Slot::kInstruction) *out += record.instruction;
    if (part.slot == Slot::kInput) *out += record.input;
    if (part.slot == Slot::kResponse) {
      out = &filled.answer;
      *out += record.response;
    }
  }
  return filled;
}

PromptAndAnswer InstructionTemplate::fill(const Instruction& record) const {
  return fill(record.input.empty() ? without_input_ : with_input_, record);
}

std::string InstructionTemplate::digest() const {
  Digester digester;
  for (const Parts* parts : {&with_input_, &without_input_}) {
    for (const Part& part : *parts) {
      digester.add(std::to_string(part.text.size()) + ' ' +
                   std::to_string(static_cast<int>(part.slot)) + ' ' + part.text);
    }
  }
  return digester.hex();
}

}  // namespace ftplan::data

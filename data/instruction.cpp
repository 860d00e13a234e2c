#include "data/instruction.h"

#include <algorithm>
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
#include "data/mapped_file.h"
#include "data/utf8.h"

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

// `prompt.txt line 3 column 5`, columns in bytes.
std::string place_of(const std::string& path, std::string_view text, std::size_t at) {
  const std::string_view before = text.substr(0, at);
  const auto line = std::ranges::count(before, '\n') + 1;
  const std::size_t column = at - (before.rfind('\n') + 1) + 1;
  return path + " line " + std::to_string(line) + " column " + std::to_string(column);
}

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
  auto with_input = parse(form.with_input, "");
  auto without_input = parse(form.without_input, "");
  FTPLAN_CHECK(with_input.ok() && without_input.ok());
  InstructionTemplate made;
  made.with_input_ = *std::move(with_input);
  made.without_input_ = *std::move(without_input);
  return made;
}

Result<InstructionTemplate> InstructionTemplate::load(const std::string& path) {
  const auto file = MappedFile::open(path);
  if (!file) return file.error();
  std::string_view text = without_byte_order_mark(file->bytes());
  if (text.ends_with('\n')) text.remove_suffix(text.ends_with("\r\n") ? 2 : 1);
  if (const std::size_t bad = find_malformed_utf8(text); bad != std::string_view::npos) {
    return bad_input(place_of(path, text, bad), "is not UTF-8");
  }
  const auto parts = parse(text, path);
  if (!parts) return parts.error();
  const auto count = [&](Slot slot) { return std::ranges::count(*parts, slot, &Part::slot); };
  if (count(Slot::kInstruction) == 0) return bad_input(path, "has no {instruction}");
  if (count(Slot::kResponse) != 1) {
    return bad_input(
        path, "has {response} " + std::to_string(count(Slot::kResponse)) + " times, expected once");
  }
  InstructionTemplate made;
  made.with_input_ = *parts;
  made.without_input_ = *parts;
  return made;
}

Result<InstructionTemplate::Parts> InstructionTemplate::parse(std::string_view text,
                                                              const std::string& where) {
  constexpr std::array kSlots{std::pair{std::string_view("{instruction}"), Slot::kInstruction},
                              std::pair{std::string_view("{input}"), Slot::kInput},
                              std::pair{std::string_view("{response}"), Slot::kResponse}};
  Parts parts(1);
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    if (rest.starts_with("{{") || rest.starts_with("}}")) {
      parts.back().text += rest.front();
      at += 2;
    } else if (rest.front() == '}') {
      return bad_input(place_of(where, text, at), "} closes nothing; write }} for a brace");
    } else if (rest.front() == '{') {
      const auto slot = std::ranges::find_if(
          kSlots, [&](const auto& candidate) { return rest.starts_with(candidate.first); });
      if (slot == kSlots.end()) {
        const std::size_t end = rest.find_first_of("}\n");
        const bool closes = end != std::string_view::npos && rest[end] == '}';
        return bad_input(place_of(where, text, at),
                         (closes ? std::string(rest.substr(0, end + 1)) + " is no field"
                                 : std::string("{ does not close")) +
                             ", expected {instruction}, {input} or {response}; write {{ for a "
                             "brace");
      }
      parts.back().slot = slot->second;
      parts.emplace_back();
      at += slot->first.size();
    } else {
      const std::size_t end = std::min(rest.find_first_of("{}"), rest.size());
      parts.back().text += rest.substr(0, end);
      at += end;
    }
  }
  return parts;
}

Result<PromptAndAnswer> InstructionTemplate::fill(const Instruction& record,
                                                  const std::string& where) const {
  const Parts& parts = record.input.empty() ? without_input_ : with_input_;
  PromptAndAnswer filled;
  std::string* out = &filled.prompt;
  bool takes_input = false;
  for (const Part& part : parts) {
    *out += part.text;
    if (part.slot == Slot::kInstruction) *out += record.instruction;
    if (part.slot == Slot::kInput) {
      *out += record.input;
      takes_input = true;
    }
    if (part.slot == Slot::kResponse) {
      out = &filled.answer;
      *out += record.response;
    }
  }
  if (!takes_input && !record.input.empty()) {
    return bad_input(where, "has an input, for which the template has no {input}");
  }
  return filled;
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

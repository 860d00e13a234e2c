#include "data/chat_template.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/digest.h"
#include "core/enums.h"
#include "core/json.h"
#include "core/result.h"
#include "core/text.h"
#include "data/chat.h"
#include "data/mapped_file.h"
#include "data/tokenizer.h"
#include "data/utf8.h"

namespace ftplan::data {
namespace {

using SystemTurns = ChatForm::SystemTurns;

// @source the chat_template in tokenizer_config.json of the models named; the tests hold their
// text and compare with what transformers makes of it
const std::vector<ChatForm>& forms() {
  static const std::vector<ChatForm> all{
      // meta-llama/Llama-2-7b-chat-hf
      {.name = "llama-2",
       .system = {.lead = "<<SYS>>\n", .end = "\n<</SYS>>\n\n"},
       .user = {.header = "{bos}[INST] ", .end = " [/INST]"},
       .assistant = {.lead = " ", .end = " {eos}"},
       .system_turns = SystemTurns::kInUserTurn,
       .alternates = true,
       .strips = true},
      // meta-llama/Meta-Llama-3-8B-Instruct
      {.name = "llama-3",
       .start = "{bos}",
       .system = {.header = "<|start_header_id|>system<|end_header_id|>\n\n", .end = "<|eot_id|>"},
       .user = {.header = "<|start_header_id|>user<|end_header_id|>\n\n", .end = "<|eot_id|>"},
       .assistant = {.header = "<|start_header_id|>assistant<|end_header_id|>\n\n",
                     .end = "<|eot_id|>"},
       .strips = true},
      // teknium/OpenHermes-2.5-Mistral-7B
      {.name = "chatml",
       .system = {.header = "<|im_start|>system\n", .end = "<|im_end|>", .rest = "\n"},
       .user = {.header = "<|im_start|>user\n", .end = "<|im_end|>", .rest = "\n"},
       .assistant = {.header = "<|im_start|>assistant\n", .end = "<|im_end|>", .rest = "\n"}},
      // Qwen/Qwen2-7B-Instruct
      {.name = "qwen2",
       .system = {.header = "<|im_start|>system\n", .end = "<|im_end|>", .rest = "\n"},
       .user = {.header = "<|im_start|>user\n", .end = "<|im_end|>", .rest = "\n"},
       .assistant = {.header = "<|im_start|>assistant\n", .end = "<|im_end|>", .rest = "\n"},
       .default_system = "You are a helpful assistant."},
      // mistralai/Mistral-7B-Instruct-v0.2
      {.name = "mistral",
       .start = "{bos}",
       .system = {.end = "\n\n"},
       .user = {.header = " [INST] ", .end = " [/INST]"},
       .assistant = {.lead = " ", .end = "{eos}"},
       .system_turns = SystemTurns::kInUserTurn,
       .alternates = true},
      // google/gemma-7b-it, google/gemma-2-9b-it
      {.name = "gemma",
       .start = "{bos}",
       .user = {.header = "<start_of_turn>user\n", .end = "<end_of_turn>", .rest = "\n"},
       .assistant = {.header = "<start_of_turn>model\n", .end = "<end_of_turn>", .rest = "\n"},
       .system_turns = SystemTurns::kNone,
       .alternates = true,
       .strips = true},
      // microsoft/Phi-3-mini-4k-instruct
      {.name = "phi-3",
       .end = "{eos}",
       .system = {.header = "<|system|>\n", .end = "<|end|>", .rest = "\n"},
       .user = {.header = "<|user|>\n", .end = "<|end|>", .rest = "\n"},
       .assistant = {.header = "<|assistant|>\n", .end = "<|end|>", .rest = "\n"}},
      // HuggingFaceH4/zephyr-7b-beta
      {.name = "zephyr",
       .system = {.header = "<|system|>\n", .end = "{eos}", .rest = "\n"},
       .user = {.header = "<|user|>\n", .end = "{eos}", .rest = "\n"},
       .assistant = {.header = "<|assistant|>\n", .end = "{eos}", .rest = "\n"}}};
  return all;
}

// Digests of the published texts in canonical spelling.
struct Published {
  std::string_view digest;
  const char* name;
};
constexpr std::array kPublished{Published{"97aac26c37e4a675cb7c5112dfc4a3b0", "llama-2"},
                                Published{"09facc0e4aa943189799ad6e2dea0594", "llama-3"},
                                Published{"f0a6a8278439fdb056191e205a440263", "chatml"},
                                Published{"e580c2da83415028d5d943bd0bd9082f", "qwen2"},
                                Published{"f6cb637204cad978fa42ef759a4066ef", "mistral"},
                                Published{"8b30bb763d138e692c2e86beabccd2a4", "gemma"},
                                Published{"0850c77e9e7c37ed82fc89c04c54ba66", "phi-3"},
                                Published{"5ae4edc1a6c08aa61db34e9fc60441d8", "zephyr"}};

// What Python's str.strip() takes away: White_Space and the four separators of ASCII.
bool is_stripped(char32_t character) {
  return is_white_space(character) || (character >= 0x1C && character <= 0x1F);
}

std::string_view stripped(std::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = decode_utf8(text, 0);
    if (!is_stripped(step.character)) break;
    text.remove_prefix(step.bytes);
  }
  while (!text.empty()) {
    const std::size_t last = last_character(text);
    if (!is_stripped(decode_utf8(text, last).character)) break;
    text = text.substr(0, last);
  }
  return text;
}

// White space at both ends left out, line ends in strings as themselves, single quotes. Two texts
// that say different things do not become equal, as long as one of them is a published one.
std::string canonical(std::string_view jinja) {
  std::string text(stripped(jinja));
  std::ranges::replace(text, '"', '\'');
  for (std::size_t at = text.find("\\n"); at != std::string::npos; at = text.find("\\n", at)) {
    text.replace(at, 2, "\n");
  }
  return text;
}

// Puts the tokenizer's token in the place of `field`.
Result<void> put_in(std::string& text, std::string_view field, std::optional<std::int32_t> id,
                    const ChatForm& form, const Tokenizer& tokenizer) {
  const std::size_t at = text.find(field);
  if (at == std::string::npos) return {};
  if (!id) {
    return bad_input("--template", form.name + " needs the token " +
                                       std::string(field.substr(1, field.size() - 2)) +
                                       ", which the model's tokenizer does not name: set it in its "
                                       "tokenizer_config.json");
  }
  text.replace(at, field.size(), tokenizer.piece(*id));
  return {};
}

std::vector<std::string*> texts_of(ChatForm& form) {
  std::vector<std::string*> texts{&form.start, &form.end, &form.default_system};
  for (TurnForm* turn : {&form.system, &form.user, &form.assistant}) {
    texts.insert(texts.end(), {&turn->header, &turn->lead, &turn->end, &turn->rest});
  }
  return texts;
}

std::string turn_place(const std::string& where, std::size_t turn) {
  return where + " turn " + std::to_string(turn + 1);
}

std::string known_names() { return join(ChatTemplate::known(), ", "); }

// The text under `chat_template`: a string, or of a list of named ones that called default.
const Json* default_template(const Json& entry) {
  if (entry.is_string()) return &entry;
  if (!entry.is_array()) return nullptr;
  for (const Json& one : entry) {
    const bool named = one.is_object() && one.contains("name") && one.contains("template");
    if (named && one["name"] == "default" && one["template"].is_string()) return &one["template"];
  }
  return nullptr;
}

Result<std::string> name_of(std::string_view jinja, const std::string& where) {
  if (auto name = recognize_chat_template(jinja)) return *std::move(name);
  return bad_input(where, "is none of the templates that ftplan knows (" + known_names() +
                              "): say which of them to use with --template NAME");
}

}  // namespace

std::vector<std::string> ChatTemplate::known() {
  std::vector<std::string> names;
  for (const ChatForm& form : forms()) names.push_back(form.name);
  return names;
}

bool ChatTemplate::is_known(const std::string& name) {
  return std::ranges::find(forms(), name, &ChatForm::name) != forms().end();
}

Result<ChatTemplate> ChatTemplate::named(const std::string& name, const Tokenizer& tokenizer) {
  const auto found = std::ranges::find(forms(), name, &ChatForm::name);
  if (found == forms().end()) {
    return bad_input("--template",
                     "got " + name + ", expected for conversations one of " + known_names());
  }
  ChatForm form = *found;
  for (std::string* text : texts_of(form)) {
    const SpecialIds& special = tokenizer.special();
    for (const auto& [field, id] : {std::pair{"{bos}", special.bos}, {"{eos}", special.eos}}) {
      if (auto done = put_in(*text, field, id, form, tokenizer); !done) return done.error();
    }
  }
  return ChatTemplate(std::move(form));
}

Result<void> ChatTemplate::check(std::span<const Message> turns, const std::string& where) const {
  // A system turn before them counts in places, but not in the order of the others.
  const bool folds =
      form_.system_turns == SystemTurns::kInUserTurn && turns.front().role == Role::kSystem;
  const std::size_t first = folds ? 1 : 0;
  if (first == turns.size()) return bad_input(where, "has a system turn and no other");
  for (std::size_t i = first; i < turns.size(); ++i) {
    const Role role = turns[i].role;
    if (role == Role::kSystem && form_.system_turns != SystemTurns::kAnywhere) {
      return bad_input(turn_place(where, i),
                       form_.system_turns == SystemTurns::kNone
                           ? "is a system turn, for which " + form_.name + " has no place"
                           : "is a system turn, which " + form_.name + " takes only at the start");
    }
    const Role expected = (i - first) % 2 == 0 ? Role::kUser : Role::kAssistant;
    if (form_.alternates && role != expected) {
      return bad_input(turn_place(where, i),
                       std::string("has the role ") + to_text(role) + ", expected " +
                           to_text(expected) + ": with " + form_.name +
                           " user and assistant take turns, and the user begins");
    }
  }
  return {};
}

Result<RenderedChat> ChatTemplate::render(std::span<const Message> messages,
                                          const std::string& where) const {
  if (messages.empty()) return bad_input(where, "has no turns");
  if (auto checked = check(messages, where); !checked) return checked.error();
  RenderedChat chat{.text = form_.start, .learned = {}};
  const bool has_system = messages.front().role == Role::kSystem;
  std::vector<Message> with_system;
  if (!has_system && !form_.default_system.empty()) {
    with_system.push_back({Role::kSystem, form_.default_system});
    with_system.insert(with_system.end(), messages.begin(), messages.end());
    messages = with_system;
  }
  std::string folded;
  if (has_system && form_.system_turns == SystemTurns::kInUserTurn) {
    folded = form_.system.lead + messages.front().content + form_.system.end;
    messages = messages.subspan(1);
  }
  for (const Message& message : messages) {
    const TurnForm& turn = message.role == Role::kSystem ? form_.system
                           : message.role == Role::kUser ? form_.user
                                                         : form_.assistant;
    const std::string content = std::exchange(folded, {}) + message.content;
    chat.text += turn.header;
    const std::size_t begin = chat.text.size();
    chat.text += turn.lead;
    chat.text += form_.strips ? stripped(content) : std::string_view(content);
    chat.text += turn.end;
    if (message.role == Role::kAssistant) chat.learned.push_back({begin, chat.text.size()});
    chat.text += turn.rest;
  }
  chat.text += form_.end;
  return chat;
}

std::string ChatTemplate::digest() const {
  ChatForm form = form_;
  std::string key = form.name;
  for (const std::string* text : texts_of(form)) key += '\n' + *text;
  return ftplan::digest(key);
}

std::optional<std::string> recognize_chat_template(std::string_view jinja) {
  const std::string its = digest(canonical(jinja));
  for (const Published& published : kPublished) {
    if (published.digest == its) return published.name;
  }
  return std::nullopt;
}

Result<std::string> find_chat_template(const std::string& folder) {
  std::error_code ignored;
  const std::string jinja = folder + "/chat_template.jinja";
  if (std::filesystem::exists(jinja, ignored)) {
    const auto file = MappedFile::open(jinja);
    if (!file) return file.error();
    return name_of(file->bytes(), jinja);
  }
  const std::string config = folder + "/tokenizer_config.json";
  const std::string missing =
      "names no chat template: say which to use with --template NAME (" + known_names() + ")";
  if (!std::filesystem::exists(config, ignored)) return bad_input(folder, missing);
  const auto file = MappedFile::open(config);
  if (!file) return file.error();
  const auto json = parse_json(file->bytes(), config);
  if (!json) return json.error();
  if (!json->is_object() || !json->contains("chat_template")) return bad_input(config, missing);
  const std::string where = config + "#/chat_template";
  const Json* text = default_template((*json)["chat_template"]);
  if (text == nullptr) return bad_input(where, missing);
  return name_of(text->get<std::string>(), where);
}

}  // namespace ftplan::data

#include "data/chat.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/data_options.h"
#include "core/result.h"
#include "data/chat_template.h"
#include "data/data_set.h"
#include "data/documents.h"
#include "support.h"

namespace ftplan::data {
namespace {

const std::string kTemplates = FTPLAN_CHAT_TEMPLATES;

std::vector<Message> turns(const std::string& letters) {
  std::vector<Message> messages;
  for (const char letter : letters) {
    const Role role = letter == 's'   ? Role::kSystem
                      : letter == 'u' ? Role::kUser
                                      : Role::kAssistant;
    messages.push_back({role, std::string(1, letter) + std::to_string(messages.size())});
  }
  return messages;
}

// The text of a conversation with what is learned in brackets, or the error.
std::string rendered(const std::string& name, const std::vector<Message>& messages) {
  const ByteTokenizer tokenizer;
  const auto chat_template = ChatTemplate::named(name, tokenizer);
  if (!chat_template) return chat_template.error().text();
  auto chat = chat_template->render(messages, "c.json record 3");
  if (!chat) return chat.error().text();
  for (std::size_t i = chat->learned.size(); i-- > 0;) {
    chat->text.insert(chat->learned[i].end, "]]");
    chat->text.insert(chat->learned[i].begin, "[[");
  }
  return chat->text;
}

std::string problem_of(const std::string& record) {
  return error_of(read_chat(record, "c.json record 3"));
}

TEST(Chat, ReadsBothSpellings) {
  const auto open_ai = read_chat(
      R"({"id": 7, "messages": [{"role": "system", "content": "a"}, {"role": "user", "content": ""},
          {"role": "assistant", "content": "\u00e9", "name": "x", "tool_calls": null}]})",
      "");
  const auto share_gpt = read_chat(
      R"({"conversations": [{"from": "system", "value": "a"}, {"from": "human", "value": ""},
          {"from": "gpt", "value": "é"}]})",
      "");
  for (const auto* messages : {&open_ai, &share_gpt}) {
    ASSERT_TRUE(*messages) << error_of(*messages);
    ASSERT_EQ((*messages)->size(), 3);
    EXPECT_EQ((**messages)[0].role, Role::kSystem);
    EXPECT_EQ((**messages)[1].role, Role::kUser);
    EXPECT_EQ((**messages)[2].role, Role::kAssistant);
    EXPECT_EQ((**messages)[2].content, "é");
  }
}

TEST(Chat, NamesTheTurnThatCannotBeRead) {
  EXPECT_EQ(problem_of(R"({"text": "a"})"),
            "c.json record 3: expected an object with messages (role, content) or conversations "
            "(from, value)");
  EXPECT_EQ(problem_of(R"({"messages": []})"),
            "c.json record 3#/messages: expected a list of turns");
  EXPECT_EQ(problem_of(R"({"messages": [{"role": "user", "content": "a"}, {"role": "tool"}]})"),
            "c.json record 3#/messages/1/role: got \"tool\", expected system | user | assistant");
  EXPECT_EQ(problem_of(R"({"conversations": [{"from": "user", "value": "a"}]})"),
            "c.json record 3#/conversations/0/from: got \"user\", expected system | human | gpt");
  EXPECT_EQ(problem_of(R"({"messages": [{"role": "user", "content": null}]})"),
            "c.json record 3#/messages/0/content: got null, expected a string; content in parts is "
            "not supported");
  EXPECT_EQ(problem_of(R"({"messages": [{"role": "user"}]})"),
            "c.json record 3#/messages/0: has no content");
  EXPECT_EQ(problem_of(R"({"messages": [{"content": "a"}]})"),
            "c.json record 3#/messages/0: has no role");
  EXPECT_EQ(problem_of(R"({"messages": ["a"]})"),
            "c.json record 3#/messages/0: expected an object: a turn of the conversation");
  EXPECT_EQ(
      problem_of(R"({"messages": [{"role": "user", "content": "a", "weight": 0}]})"),
      "c.json record 3#/messages/0/weight: is not supported: take it out, or leave the record "
      "out");
}

TEST(Chat, LearnsAssistantTurnsThroughTheirEnd) {
  EXPECT_EQ(rendered("llama-2", turns("suaua")),
            "<s>[INST] <<SYS>>\ns0\n<</SYS>>\n\nu1 [/INST][[ a2 </s>]]<s>[INST] u3 [/INST][[ a4 "
            "</s>]]");
  EXPECT_EQ(rendered("llama-3", turns("ua")),
            "<s><|start_header_id|>user<|end_header_id|>\n\nu0<|eot_id|><|start_header_id|>"
            "assistant<|end_header_id|>\n\n[[a1<|eot_id|>]]");
  EXPECT_EQ(rendered("chatml", turns("sau")),
            "<|im_start|>system\ns0<|im_end|>\n<|im_start|>assistant\n[[a1<|im_end|>]]\n"
            "<|im_start|>user\nu2<|im_end|>\n");
  EXPECT_EQ(rendered("qwen2", turns("ua")),
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nu0"
            "<|im_end|>\n<|im_start|>assistant\n[[a1<|im_end|>]]\n");
  EXPECT_EQ(rendered("mistral", turns("sua")), "<s> [INST] s0\n\nu1 [/INST][[ a2</s>]]");
  EXPECT_EQ(rendered("gemma", turns("ua")),
            "<s><start_of_turn>user\nu0<end_of_turn>\n<start_of_turn>model\n[[a1<end_of_turn>]]\n");
  EXPECT_EQ(rendered("phi-3", turns("ua")),
            "<|user|>\nu0<|end|>\n<|assistant|>\n[[a1<|end|>]]\n</s>");
  EXPECT_EQ(rendered("zephyr", turns("sua")),
            "<|system|>\ns0</s>\n<|user|>\nu1</s>\n<|assistant|>\n[[a2</s>]]\n");
}

TEST(Chat, RefusesTurnsThatATemplateHasNoPlaceFor) {
  EXPECT_EQ(rendered("llama-2", turns("uua")),
            "c.json record 3 turn 2: has the role user, expected assistant: with llama-2 user and "
            "assistant take turns, and the user begins");
  EXPECT_EQ(rendered("mistral", turns("sa")),
            "c.json record 3 turn 2: has the role assistant, expected user: with mistral user and "
            "assistant take turns, and the user begins");
  EXPECT_EQ(rendered("llama-2", turns("us")),
            "c.json record 3 turn 2: is a system turn, which llama-2 takes only at the start");
  EXPECT_EQ(rendered("gemma", turns("sua")),
            "c.json record 3 turn 1: is a system turn, for which gemma has no place");
  EXPECT_EQ(rendered("mistral", turns("s")), "c.json record 3: has a system turn and no other");
}

TEST(Chat, KnowsItsTemplatesByNameOnly) {
  EXPECT_EQ(rendered("llama3", turns("ua")),
            "--template: got llama3, expected for conversations one of llama-2, llama-3, chatml, "
            "qwen2, mistral, gemma, phi-3, zephyr");
  const ByteTokenizer no_eos("bytes", /*has_eos=*/false);
  EXPECT_EQ(error_of(ChatTemplate::named("zephyr", no_eos)),
            "--template: zephyr needs the token eos, which the model's tokenizer does not name: "
            "set it in its tokenizer_config.json");
  EXPECT_TRUE(ChatTemplate::named("chatml", no_eos));
}

TEST(Chat, RecognizesThePublishedTemplates) {
  for (const std::string& name : ChatTemplate::known()) {
    const std::string jinja = read_file(kTemplates + "/" + name + ".jinja");
    ASSERT_FALSE(jinja.empty()) << name;
    EXPECT_EQ(recognize_chat_template(jinja), name);
    EXPECT_EQ(recognize_chat_template(jinja + "\n"), name);
    EXPECT_EQ(recognize_chat_template(jinja + "{{ 'x' }}"), std::nullopt);
  }
}

class ChatTemplateOfFolder : public ::testing::Test {
 protected:
  // What the folder with these files says, its own path left out.
  std::string found(const std::string& file, const std::string& content) {
    const std::string path = folder_.write(file, content);
    const auto name = find_chat_template(folder_.path(""));
    std::string text = name ? *name : name.error().text();
    if (text.starts_with(folder_.path(""))) text.erase(0, folder_.path("").size());
    return text;
  }
  TestFolder folder_;
};

constexpr const char* kConfig = "tokenizer_config.json";
constexpr const char* kChatml =
    R"({% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + )"
    R"(message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %})"
    R"({{ '<|im_start|>assistant\\n' }}{% endif %})";

TEST_F(ChatTemplateOfFolder, IsFoundInItsFiles) {
  const std::string chatml = kChatml;
  EXPECT_EQ(found(kConfig, R"({"chat_template": ")" + chatml + "\"}"), "chatml");
  EXPECT_EQ(found(kConfig, R"({"chat_template": [{"name": "tool_use", "template": "x"},
                              {"name": "default", "template": ")" +
                               chatml + "\"}]}"),
            "chatml");
  // The file of its own goes before the configuration.
  EXPECT_EQ(found("chat_template.jinja", read_file(kTemplates + "/gemma.jinja")), "gemma");
}

TEST_F(ChatTemplateOfFolder, IsRefusedWhenItIsNotKnown) {
  const std::string known = "llama-2, llama-3, chatml, qwen2, mistral, gemma, phi-3, zephyr";
  EXPECT_EQ(found(kConfig, R"({"chat_template": "{{ messages }}"})"),
            "/tokenizer_config.json#/chat_template: is none of the templates that ftplan knows (" +
                known + "): say which of them to use with --template NAME");
  EXPECT_EQ(
      found(kConfig, "{}"),
      "/tokenizer_config.json: names no chat template: say which to use with --template NAME (" +
          known + ")");
  EXPECT_EQ(found("chat_template.jinja", "{{ messages }}").substr(0, 48),
            "/chat_template.jinja: is none of the templates t");
}

class ChatData : public ::testing::Test {
 protected:
  Result<DataSet> load(const DataOptions& options) { return load_data(options, context_); }

  TestFolder folder_;
  ByteTokenizer tokenizer_;
  DataContext context_{.tokenizer = &tokenizer_, .folder = folder_.path(""), .cache_folder = {}};
};

TEST_F(ChatData, BecomesTheTextOfItsTemplateAndNothingElse) {
  const std::string path = folder_.write(
      "chat.jsonl",
      R"({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]})");
  const auto set = load({.data = {path}, .prompt_template = "chatml"});
  ASSERT_TRUE(set) << error_of(set);
  const std::string before = "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n";
  const std::string text = before + "a<|im_end|>" + "\n";
  std::vector<std::int32_t> labels;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool learned = i >= before.size() && i + 1 < text.size();
    labels.push_back(learned ? text[i] : kNoLabel);
  }
  EXPECT_EQ(set->training.ids, (std::vector<std::int32_t>(text.begin(), text.end())));
  EXPECT_EQ(set->training.labels, labels);
  const auto all = load({.data = {path}, .prompt_template = "chatml", .train_on_prompt = true});
  EXPECT_EQ(all->training.labels, set->training.ids);
}

TEST_F(ChatData, ItsTokensAreReusedForTheSameTemplate) {
  context_.cache_folder = folder_.path("cache");
  const std::string path = folder_.write(
      "chat.jsonl",
      R"({"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]})");
  DataOptions options{.data = {path}, .prompt_template = "chatml"};
  EXPECT_FALSE(load(options)->from_cache);
  EXPECT_TRUE(load(options)->from_cache);
  options.prompt_template = "zephyr";
  EXPECT_FALSE(load(options)->from_cache);
}

TEST_F(ChatData, NeedsATemplateAndOtherDataTakesNone) {
  const std::string chat = folder_.write("chat.jsonl", R"({"messages": []})");
  EXPECT_NE(error_of(load({.data = {chat}})).find("names no chat template"), std::string::npos);
  const std::string text = folder_.write("t.txt", "a");
  EXPECT_EQ(error_of(load({.data = {text}, .prompt_template = "chatml"})),
            "--template: is for instructions and conversations, but the data holds text");
}

}  // namespace
}  // namespace ftplan::data

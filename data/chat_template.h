#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "data/chat.h"
#include "data/tokenizer.h"

/// Conversations as the text that chat models were trained on.
///
/// Models publish their template as a Jinja program. ftplan runs no program of a model folder: it
/// knows some templates by name, and finds which of them a folder holds by the digest of its text.
namespace ftplan::data {

/// Bytes [begin, end) of a text.
struct TextSpan {
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// A conversation as text, special tokens spelled out, and the parts of it that are learned: of
/// each assistant turn what stands behind its header, through its end-of-turn token.
struct RenderedChat {
  std::string text;
  std::vector<TextSpan> learned;
};

/// What a template puts around a turn. `{bos}` and `{eos}` stand for the tokenizer's tokens.
struct TurnForm {
  std::string header;  ///< before the turn; not learned
  std::string lead;    ///< before the content; learned in assistant turns
  std::string end;     ///< behind the content, with the end-of-turn token; learned there, too
  std::string rest;    ///< behind that; not learned
};

/// A published template, as data.
struct ChatForm {
  std::string name;
  std::string start;  ///< before the first turn
  std::string end;    ///< behind the last turn
  TurnForm system;    ///< where `system_turns` is kInUserTurn: `lead` and `end` around it there
  TurnForm user;
  TurnForm assistant;
  enum class SystemTurns : std::uint8_t {
    kAnywhere,    ///< a turn of its own
    kInUserTurn,  ///< only first, put before the content of the first user turn
    kNone,        ///< refused
  } system_turns = SystemTurns::kAnywhere;
  std::string default_system;  ///< content of a system turn where the conversation begins otherwise
  bool alternates = false;     ///< user, assistant, user, ...; anything else is refused
  bool strips = false;  ///< white space around contents is left out, as Python's strip() does
};

class ChatTemplate {
 public:
  /// The names that `named` knows.
  static std::vector<std::string> known();
  static bool is_known(const std::string& name);
  /// A known template with the tokens of `tokenizer` put in.
  /// @error bad input at --template: an unknown name; a tokenizer without BOS or EOS where the
  /// template needs it
  static Result<ChatTemplate> named(const std::string& name, const Tokenizer& tokenizer);

  /// The text of a conversation.
  /// @error bad input at `where`: turns that the template has no place for
  [[nodiscard]] Result<RenderedChat> render(std::span<const Message> messages,
                                            const std::string& where) const;
  [[nodiscard]] const std::string& name() const { return form_.name; }
  /// Of all that decides what a conversation becomes.
  [[nodiscard]] std::string digest() const;

 private:
  explicit ChatTemplate(ChatForm form) : form_(std::move(form)) {}
  [[nodiscard]] Result<void> check(std::span<const Message> turns, const std::string& where) const;

  ChatForm form_;
};

/// The name of the template whose published Jinja text this is; line ends and quotes may be spelled
/// either way.
std::optional<std::string> recognize_chat_template(std::string_view jinja);

/// The name of the template of the tokenizer in `folder`: chat_template.jinja, or `chat_template`
/// in tokenizer_config.json, where of several the one named default counts.
/// @error bad input that names the file: no template there, or none that is known
Result<std::string> find_chat_template(const std::string& folder);

}  // namespace ftplan::data

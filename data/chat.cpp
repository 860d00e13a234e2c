#include "data/chat.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/result.h"

namespace ftplan::data {
namespace {

// How a kind of record spells its turns.
struct Spelling {
  const char* list;
  const char* role;
  const char* content;
  std::array<const char*, 3> roles;  // in the order of Role
};

constexpr std::array kSpellings{
    Spelling{"messages", "role", "content", {"system", "user", "assistant"}},
    Spelling{"conversations", "from", "value", {"system", "human", "gpt"}}};

// Keys that would change what is said or learned; without them training would go wrong in silence.
constexpr std::array kMeaningful{"tool_calls", "function_call", "tool_call_id", "weight"};

Error not_a_text(const Json& turn, const Spelling& spelling, const std::string& where) {
  const auto content = turn.find(spelling.content);
  if (content == turn.end()) return bad_input(where, std::string("has no ") + spelling.content);
  return bad_input(where + "/" + spelling.content,
                   "got " + json_detail::got(*content) +
                       ", expected a string; content in parts is not supported");
}

Result<Role> role_of(const Json& turn, const Spelling& spelling, const std::string& where) {
  const auto role = turn.find(spelling.role);
  if (role == turn.end()) return bad_input(where, std::string("has no ") + spelling.role);
  const std::string name = role->is_string() ? role->get<std::string>() : "";
  const auto known = std::ranges::find(spelling.roles, name);
  if (known != spelling.roles.end()) {
    return static_cast<Role>(std::distance(spelling.roles.begin(), known));
  }
  return bad_input(where + "/" + spelling.role, "got " + json_detail::got(*role) + ", expected " +
                                                    spelling.roles[0] + " | " + spelling.roles[1] +
                                                    " | " + spelling.roles[2]);
}

Result<Message> read_turn(const Json& turn, const Spelling& spelling, const std::string& where) {
  if (!turn.is_object()) return bad_input(where, "expected an object: a turn of the conversation");
  const auto role = role_of(turn, spelling, where);
  if (!role) return role.error();
  for (const char* key : kMeaningful) {
    const auto entry = turn.find(key);
    if (entry == turn.end() || entry->is_null()) continue;
    return bad_input(where + "/" + key, "is not supported: take it out, or leave the record out");
  }
  const auto content = turn.find(spelling.content);
  if (content == turn.end() || !content->is_string()) return not_a_text(turn, spelling, where);
  return Message{*role, content->get<std::string>()};
}

}  // namespace

Result<std::vector<Message>> read_chat(std::string_view record, const std::string& where) {
  const auto json = parse_json(record, where);
  if (!json) return json.error();
  const Spelling* spelling = nullptr;
  for (const Spelling& candidate : kSpellings) {
    if (spelling == nullptr && json->is_object() && json->contains(candidate.list)) {
      spelling = &candidate;
    }
  }
  if (spelling == nullptr) {
    return bad_input(where,
                     "expected an object with messages (role, content) or conversations "
                     "(from, value)");
  }
  const Json& list = (*json)[spelling->list];
  const std::string place = where + "#/" + spelling->list;
  if (!list.is_array() || list.empty()) return bad_input(place, "expected a list of turns");
  std::vector<Message> messages;
  for (std::size_t i = 0; i < list.size(); ++i) {
    auto message = read_turn(list[i], *spelling, place + "/" + std::to_string(i));
    if (!message) return message.error();
    messages.push_back(*std::move(message));
  }
  return messages;
}

}  // namespace ftplan::data

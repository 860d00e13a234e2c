#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/enums.h"
#include "core/result.h"

/// Records of conversations.
namespace ftplan::data {

enum class Role : std::uint8_t { kSystem, kUser, kAssistant };

}  // namespace ftplan::data

namespace ftplan {
template <>
inline constexpr auto names<data::Role> =
    std::array{Name{data::Role::kSystem, "system"}, Name{data::Role::kUser, "user"},
               Name{data::Role::kAssistant, "assistant"}};
}  // namespace ftplan

namespace ftplan::data {

/// One turn of a conversation.
struct Message {
  Role role = Role::kUser;
  std::string content;
};

/// Reads a conversation: `{"messages": [{"role", "content"}, ...]}` with the roles system, user and
/// assistant, or ShareGPT's `{"conversations": [{"from", "value"}, ...]}` with system, human and
/// gpt. Other keys of the record are ignored; of a turn only those that say nothing to the model.
/// @error bad input at `where` that names the turn: a role, a content or a key that is not known
Result<std::vector<Message>> read_chat(std::string_view record, const std::string& where);

}  // namespace ftplan::data

#include "data/added_tokens.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/json.h"
#include "core/regex.h"
#include "core/result.h"
#include "data/utf8.h"

namespace ftplan::data {
namespace {

// Whether `text` begins with a character that \w of the reference's engine matches.
// @source Unicode Technical Standard 18, annex C: Alphabetic, M, Nd, Pc, Join_Control
bool begins_with_word(std::string_view text) {
  static const Regex word = [] {
    auto regex = Regex::compile(R"(\A[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}])", "\\w");
    FTPLAN_CHECK(regex.ok());
    return *regex;
  }();
  RegexMatcher matcher(word);
  const auto match = matcher.find(text.substr(0, decode_utf8(text, 0).bytes), 0);
  return match.ok() && match->has_value();
}

bool touches_a_word(std::string_view text, std::size_t begin, std::size_t end) {
  if (end < text.size() && begins_with_word(text.substr(end))) return true;
  return begin > 0 && begins_with_word(text.substr(last_character(text.substr(0, begin))));
}

}  // namespace

Result<AddedToken> read_added_token(const Json& json, const std::string& where) {
  if (!json.is_object() || !json.contains("content") || !json["content"].is_string()) {
    return bad_input(where, "expected an added token: an object with its content");
  }
  AddedToken token;
  token.content = json["content"].get<std::string>();
  if (json.contains("id") && json["id"].is_number_integer())
    token.id = json["id"].get<std::int32_t>();
  const auto flag = [&](const char* key, bool otherwise) {
    const auto entry = json.find(key);
    return entry != json.end() && entry->is_boolean() ? entry->get<bool>() : otherwise;
  };
  token.special = flag("special", false);
  token.single_word = flag("single_word", false);
  token.lstrip = flag("lstrip", false);
  token.rstrip = flag("rstrip", false);
  token.normalized = flag("normalized", !token.special);
  return token;
}

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens,
                                     const std::vector<std::string>& spellings)
    : tokens_(std::move(tokens)) {
  for (std::size_t i = 0; i < spellings.size(); ++i) {
    if (!spellings[i].empty()) add(spellings[i], static_cast<std::int32_t>(i));
  }
}

void AddedTokenMatcher::add(std::string_view spelling, std::int32_t token) {
  begins_.at(static_cast<std::uint8_t>(spelling.front())) = true;
  std::int32_t node = 0;
  for (const char byte : spelling) {
    std::int32_t child = child_of(node, byte);
    if (child == kNone) {
      child = static_cast<std::int32_t>(nodes_.size());
      nodes_.emplace_back();
      nodes_[static_cast<std::size_t>(node)].children.emplace_back(byte, child);
    }
    node = child;
  }
  nodes_[static_cast<std::size_t>(node)].token = token;
}

std::int32_t AddedTokenMatcher::child_of(std::int32_t node, char byte) const {
  for (const auto& [symbol, child] : nodes_[static_cast<std::size_t>(node)].children) {
    if (symbol == byte) return child;
  }
  return kNone;
}

AddedTokenMatcher::Found AddedTokenMatcher::longest_at(std::string_view text) const {
  Found longest;
  std::int32_t node = 0;
  for (std::size_t size = 0; size < text.size();) {
    node = child_of(node, text[size]);
    if (node == kNone) break;
    ++size;
    const std::int32_t token = nodes_[static_cast<std::size_t>(node)].token;
    if (token != kNone) longest = {token, size};
  }
  return longest;
}

std::vector<TextPart> AddedTokenMatcher::split(std::string_view text) const {
  std::vector<TextPart> parts;
  std::size_t done = 0;
  std::size_t at = 0;
  while (!tokens_.empty() && at < text.size()) {
    if (!begins_[static_cast<std::uint8_t>(text[at])]) {
      ++at;
      continue;
    }
    const Found found = longest_at(text.substr(at));
    if (found.token == kNone) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<std::size_t>(found.token)];
    std::size_t begin = at;
    std::size_t end = at + found.size;
    at = end;
    if (token.single_word && touches_a_word(text, begin, end)) continue;
    // What an earlier token has taken stays with it.
    if (token.lstrip) begin = std::max(begin - trailing_white_space(text.substr(0, begin)), done);
    if (token.rstrip) end += leading_white_space(text.substr(end));
    if (done < begin) parts.push_back({-1, text.substr(done, begin - done)});
    parts.push_back({token.id, text.substr(begin, end - begin)});
    done = end;
  }
  if (done < text.size()) parts.push_back({-1, text.substr(done)});
  return parts;
}

}  // namespace ftplan::data

#include "data/utf8.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace ftplan::data {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

// What the lead byte promises: the length and the range of the second byte (table 3-7).
struct Lead {
  std::size_t bytes = 0;  // 0: never a lead byte
  std::uint8_t low = 0x80;
  std::uint8_t high = 0xBF;
};

Lead lead_of(std::uint8_t byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {};
}

// The length of the ASCII run at `at`, eight bytes at a time.
std::size_t ascii_run(std::string_view text, std::size_t at) {
  constexpr std::uint64_t kHighBits = 0x8080808080808080U;
  std::size_t end = at;
  for (; end + sizeof(std::uint64_t) <= text.size(); end += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + end, sizeof word);
    if ((word & kHighBits) != 0) break;
  }
  while (end < text.size() && static_cast<std::uint8_t>(text[end]) < 0x80) ++end;
  return end - at;
}

}  // namespace

Utf8Step decode_utf8(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[at + i]); };
  if (byte(0) < 0x80) return {byte(0), 1, true};
  const Lead lead = lead_of(byte(0));
  if (lead.bytes == 0) return {kReplacement, 1, false};
  constexpr std::array<std::uint8_t, 5> kLeadBits{0, 0, 0x1F, 0x0F, 0x07};
  char32_t character = byte(0) & kLeadBits.at(lead.bytes);
  for (std::size_t i = 1; i < lead.bytes; ++i) {
    const std::uint8_t low = i == 1 ? lead.low : 0x80;
    const std::uint8_t high = i == 1 ? lead.high : 0xBF;
    if (at + i >= text.size() || byte(i) < low || byte(i) > high) return {kReplacement, i, false};
    character = (character << 6U) | (byte(i) & 0x3FU);
  }
  return {character, lead.bytes, true};
}

std::size_t find_malformed_utf8(std::string_view text) {
  std::size_t at = 0;
  while (true) {
    at += ascii_run(text, at);
    if (at == text.size()) return std::string_view::npos;
    const Utf8Step step = decode_utf8(text, at);
    if (!step.valid) return at;
    at += step.bytes;
  }
}

std::string replace_malformed_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t valid = std::min(find_malformed_utf8(text), text.size());
    out += text.substr(0, valid);
    text.remove_prefix(valid);
    if (text.empty()) break;
    out += kReplacementCharacter;
    text.remove_prefix(decode_utf8(text, 0).bytes);
  }
  return out;
}

std::size_t incomplete_utf8_suffix(std::string_view text) {
  constexpr std::size_t kLongest = 3;
  for (std::size_t bytes = 1; bytes <= std::min(kLongest, text.size()); ++bytes) {
    const std::size_t at = text.size() - bytes;
    const Lead lead = lead_of(static_cast<std::uint8_t>(text[at]));
    if (lead.bytes == 0) continue;
    const Utf8Step step = decode_utf8(text, at);
    return !step.valid && step.bytes == bytes ? bytes : 0;
  }
  return 0;
}

void append_utf8(char32_t character, std::string& text) {
  const auto add = [&](char32_t value) { text += static_cast<char>(value); };
  const auto add_rest = [&](int shift) {
    for (; shift >= 0; shift -= 6)
      add(0x80U | ((character >> static_cast<unsigned>(shift)) & 0x3FU));
  };
  if (character < 0x80) return add(character);
  if (character < 0x800) return add(0xC0U | (character >> 6U)), add_rest(0);
  if (character < 0x10000) return add(0xE0U | (character >> 12U)), add_rest(6);
  add(0xF0U | (character >> 18U));
  add_rest(12);
}

bool is_white_space(char32_t character) {
  switch (character) {
    case 0x20:
    case 0x85:
    case 0xA0:
    case 0x1680:
    case 0x2028:
    case 0x2029:
    case 0x202F:
    case 0x205F:
    case 0x3000:
      return true;
    default:
      return (character >= 0x09 && character <= 0x0D) ||
             (character >= 0x2000 && character <= 0x200A);
  }
}

std::size_t leading_white_space(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const Utf8Step step = decode_utf8(text, at);
    if (!is_white_space(step.character)) break;
    at += step.bytes;
  }
  return at;
}

std::size_t trailing_white_space(std::string_view text) {
  std::size_t end = text.size();
  while (end > 0) {
    const std::size_t at = last_character(text.substr(0, end));
    if (!is_white_space(decode_utf8(text, at).character)) break;
    end = at;
  }
  return text.size() - end;
}

std::string_view without_byte_order_mark(std::string_view text) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  if (text.starts_with(kMark)) text.remove_prefix(kMark.size());
  return text;
}

std::size_t last_character(std::string_view text) {
  std::size_t at = text.size() - 1;
  while (at > 0 && (static_cast<std::uint8_t>(text[at]) & 0xC0U) == 0x80U) --at;
  return at;
}

}  // namespace ftplan::data

#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

/// GPT-2's alphabet: each byte is one printable character, so that tokens of bytes are text in a
/// JSON file.
namespace ftplan::data {

/// The character of each byte: printable Latin-1 stands for itself, the other 68 bytes are U+0100
/// and on.
/// @source openai/gpt-2 `src/encoder.py`, bytes_to_unicode
const std::array<char32_t, 256>& byte_characters();

/// The bytes that `token` stands for, or nothing if one of its characters is not in the alphabet.
std::optional<std::string> bytes_of_token(std::string_view token);

}  // namespace ftplan::data

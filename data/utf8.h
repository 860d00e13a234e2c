#pragma once

#include <cstddef>
#include <string>
#include <string_view>

/// UTF-8 as tokenizers need it: what is valid, what replaces the rest, which characters are white
/// space.
namespace ftplan::data {

/// U+2581, which stands for a space in the pieces of SentencePiece and of those who follow it.
inline constexpr std::string_view kMeta = "\xE2\x96\x81";

/// One step through bytes that may be malformed.
struct Utf8Step {
  char32_t character = 0;  ///< U+FFFD when not valid
  std::size_t bytes = 0;   ///< of the character, or of the longest malformed prefix; at least 1
  bool valid = false;
};

/// Decodes what starts at `text[at]`. @pre at < text.size()
/// @source The Unicode Standard 15, table 3-7 and "maximal subpart" in section 3.9
Utf8Step decode_utf8(std::string_view text, std::size_t at);

/// Byte offset of the first malformed sequence, or npos.
std::size_t find_malformed_utf8(std::string_view text);

/// `text` with each maximal malformed subpart as one U+FFFD.
std::string replace_malformed_utf8(std::string_view text);

/// Bytes at the end that are the beginning of a character whose rest may still follow.
std::size_t incomplete_utf8_suffix(std::string_view text);

void append_utf8(char32_t character, std::string& text);

/// The property White_Space. @source Unicode 16, PropList.txt
bool is_white_space(char32_t character);

/// Bytes of white space at the start and at the end of well-formed text.
std::size_t leading_white_space(std::string_view text);
std::size_t trailing_white_space(std::string_view text);

/// Offset of the last character of well-formed text. @pre text is not empty
std::size_t last_character(std::string_view text);

/// `text` without a byte order mark at its start.
std::string_view without_byte_order_mark(std::string_view text);

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

}  // namespace ftplan::data

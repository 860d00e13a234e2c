#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

/// Canonical composition: one spelling for characters that Unicode calls the same.
namespace ftplan::data {

/// Bytes [begin, end) of a text and what stands for them.
struct Replacement {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::string text;
};

/// What normalization form C changes in `text`, in order. Time: linear, times the logarithm of the
/// longest run of marks.
/// @source The Unicode Standard 9, section 3.11 and 3.12 (Hangul); as
/// huggingface/tokenizers `normalizers/unicode.rs`, NFC
/// @pre text is well-formed UTF-8
std::vector<Replacement> nfc_changes(std::string_view text);

}  // namespace ftplan::data

#pragma once

#include <string>
#include <string_view>

namespace ftplan::data {

/// The few settings of a SentencePiece model file that decide how its text may be cut, read from
/// its protobuf bytes because the library does not tell them.
/// @source google/sentencepiece `src/sentencepiece_model.proto`
struct SentencePieceSettings {
  bool bpe = false;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool has_character_map = false;
  bool whitespace_as_suffix = false;
};

/// Total on any bytes; what is malformed keeps the defaults.
SentencePieceSettings read_sentencepiece_settings(std::string_view model);

/// The same model without a space in front of the text: in protobuf, a message that comes again is
/// merged into the first, so appending the changed field is enough.
std::string without_dummy_prefix(std::string_view model);

}  // namespace ftplan::data

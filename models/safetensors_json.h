#pragma once

#include <string>
#include <string_view>

#include "core/result.h"
#include "models/safetensors_header.h"

/// The JSON inside a header, read without building a tree: a header may have 100 MB and come from
/// anywhere.
namespace ftplan::models {

/// Names, element types, shapes and offsets in the order of the text; nothing is checked that needs
/// more than the text.
/// @error where the text is not JSON of this form, or names a key twice
Result<Header> parse_header_json(std::string_view text, const std::string& where);

}  // namespace ftplan::models

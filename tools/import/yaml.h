#pragma once

#include <string>
#include <string_view>

#include "core/json.h"
#include "core/result.h"

namespace ftplan::tools {

/// The first document of a YAML text as JSON: plain scalars become null, booleans and numbers as
/// YAML 1.2 reads them, quoted ones stay text, anchors are copied to where they are named.
/// @error bad input with its line: not YAML, keys that are no text or come twice, deeper than 64
/// levels, or more than 100,000 values once anchors are copied
Result<Json> parse_yaml(std::string_view text, const std::string& where);

}  // namespace ftplan::tools

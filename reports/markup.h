#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/units.h"

/// Text that is safe to put into a page or on a terminal.
namespace ftplan::reports {

/// `&`, `<`, `>` and both quotes as entities, control characters as U+FFFD: safe as text and inside
/// quoted attributes.
std::string escape_html(std::string_view text);

/// `text` without what a terminal would obey: control characters become `?`.
std::string printable(std::string_view text);

using Attributes = std::vector<std::pair<const char*, std::string>>;

/// `<name attributes>content</name>`. Values are escaped; `content` is markup already.
std::string tag(std::string_view name, const Attributes& attributes, std::string_view content);

/// A table cell with a bar of `part / whole` of its width in the colour of class `colour`.
std::string share_bar(Bytes part, Bytes whole, const std::string& colour);

/// `1,234,567`: exact counts and bytes.
std::string with_commas(std::int64_t value);

/// `+12` or `-3`, with commas.
std::string with_sign(std::int64_t value);

/// `text` filled up with spaces to `width` columns; never cut. Columns are counted as UTF-8
/// characters.
std::string pad_left(std::string_view text, std::size_t width);
std::string pad_right(std::string_view text, std::size_t width);

/// `text`, or its beginning and an ellipsis, in at most `width` (> 0) columns.
std::string shorten(std::string_view text, std::size_t width);

/// `text` in lines of at most `width` columns, broken at spaces; a longer word gets a line of its
/// own.
std::vector<std::string> wrap(std::string_view text, std::size_t width);

}  // namespace ftplan::reports

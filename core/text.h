#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/units.h"

/// Small pieces of text that several rooms print.
namespace ftplan {

/// `12.34 GiB`, `512.0 KiB`, `17 B`: binary units, the largest that leaves at least 1.
std::string format_bytes(Bytes bytes);
/// GiB with two decimals and no unit, for tables with the unit in their head.
std::string format_gib(Bytes bytes);
/// `6.74 B`, `207 M`, `4.10 k`: counts of parameters.
std::string format_count(std::int64_t count);
/// `1h 02m`, `3m 20s`, `12.3 s`.
std::string format_duration(Seconds seconds);
/// Shortest text that reads back as the same double, with a decimal point or exponent kept off
/// integers.
std::string format_number(double value);
/// Fixed number of decimals.
std::string format_fixed(double value, int decimals);

std::string join(const std::vector<std::string>& parts, std::string_view separator);
std::vector<std::string> split(std::string_view text, char separator);
/// Up to `limit` of the candidates nearest to `word` in edit distance, for "did you mean".
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace ftplan

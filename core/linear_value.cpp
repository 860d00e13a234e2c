#include "core/linear_value.h"

#include <charconv>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "core/text.h"

namespace ftplan {

std::string to_text(const LinearValue& value) {
  return value.linear + "=" + format_number(value.value);
}

std::optional<LinearValue> parse_text(std::string_view text, LinearValue* /*tag*/) {
  const std::size_t sign = text.find('=');
  if (sign == 0 || sign == std::string_view::npos) return std::nullopt;
  LinearValue result{.linear = std::string(text.substr(0, sign))};
  const auto [end, error] =
      std::from_chars(text.data() + sign + 1, text.data() + text.size(), result.value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(result.value))
    return std::nullopt;
  return result;
}

std::string expected_text(const LinearValue* /*tag*/) { return "LINEAR=NUMBER"; }

}  // namespace ftplan

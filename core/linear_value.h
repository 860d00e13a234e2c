#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ftplan {

/// A number for one linear, such as `q_proj=8`: an entry of PEFT's `rank_pattern` and
/// `alpha_pattern`.
struct LinearValue {
  std::string linear;
  double value = 0;
  friend bool operator==(const LinearValue&, const LinearValue&) = default;
};
std::string to_text(const LinearValue& value);
std::optional<LinearValue> parse_text(std::string_view text, LinearValue*);
std::string expected_text(const LinearValue*);

}  // namespace ftplan

#include "reports/markup.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/text.h"
#include "core/units.h"

namespace ftplan::reports {
namespace {

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7f;
}

// Characters, not bytes: continuation bytes of UTF-8 take no column.
std::size_t columns(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::string spaces(std::string_view text, std::size_t width) {
  const std::size_t used = columns(text);
  return std::string(used < width ? width - used : 0, ' ');
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\'':
        safe += "&#39;";
        break;
      case '\n':
      case '\t':
        safe += ' ';
        break;
      default:
        safe += is_control(c) ? "\xEF\xBF\xBD" : std::string(1, c);
    }
  }
  return safe;
}

std::string printable(std::string_view text) {
  std::string safe(text);
  // U+0080..U+009F, C2 80..C2 9F in UTF-8, are controls too: a terminal may take U+009B for ESC [.
  for (std::size_t i = 0; i < safe.size(); ++i) {
    const bool second = i + 1 < safe.size() && static_cast<unsigned char>(safe[i]) == 0xC2 &&
                        static_cast<unsigned char>(safe[i + 1]) < 0xA0;
    if (second) safe.replace(i, 2, "?");
    if (is_control(safe[i])) safe[i] = '?';
  }
  return safe;
}

std::string tag(std::string_view name, const Attributes& attributes, std::string_view content) {
  std::string text = "<" + std::string(name);
  for (const auto& [key, value] : attributes) {
    text += std::string(" ") + key + "=\"" + escape_html(value) + "\"";
  }
  return text + ">" + std::string(content) + "</" + std::string(name) + ">";
}

std::string share_bar(Bytes part, Bytes whole, const std::string& colour) {
  const double share =
      whole > Bytes{} ? 100.0 * static_cast<double>(part.value) / static_cast<double>(whole.value)
                      : 0;
  const std::string width = "width:" + format_fixed(std::clamp(share, 0.0, 100.0), 1) + "%";
  return tag("td", {{"class", "share"}},
             share > 0 ? tag("i", {{"class", colour}, {"style", width}}, "") : "");
}

std::string with_commas(std::int64_t value) {
  std::string digits = std::to_string(value);
  const std::size_t first = digits.front() == '-' ? 1 : 0;
  for (std::size_t at = digits.size(); at > first + 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

std::string with_sign(std::int64_t value) { return (value > 0 ? "+" : "") + with_commas(value); }

std::string pad_left(std::string_view text, std::size_t width) {
  return spaces(text, width) + std::string(text);
}

std::string pad_right(std::string_view text, std::size_t width) {
  return std::string(text) + spaces(text, width);
}

std::string shorten(std::string_view text, std::size_t width) {
  if (columns(text) <= width) return std::string(text);
  std::size_t end = 0;
  for (std::size_t used = 0; end < text.size(); ++end) {
    const bool begins = (static_cast<unsigned char>(text[end]) & 0xC0) != 0x80;
    if (begins && ++used == width) break;
  }
  return std::string(text.substr(0, end)) + "\u2026";
}

std::vector<std::string> wrap(std::string_view text, std::size_t width) {
  std::vector<std::string> lines;
  for (const std::string& word : split(text, ' ')) {
    if (word.empty()) continue;
    if (!lines.empty() && columns(lines.back()) + 1 + columns(word) <= width) {
      lines.back() += " " + word;
    } else {
      lines.push_back(word);
    }
  }
  return lines;
}

}  // namespace ftplan::reports

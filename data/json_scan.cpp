#include "data/json_scan.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace ftplan::data {

void JsonScanner::skip_space() {
  constexpr std::string_view kSpace = " \t\r\n";
  at_ = std::min(text_.find_first_not_of(kSpace, at_), text_.size());
}

bool JsonScanner::at_end() {
  skip_space();
  return at_ == text_.size();
}

bool JsonScanner::take(char symbol) {
  skip_space();
  if (at_ == text_.size() || text_[at_] != symbol) return false;
  ++at_;
  return true;
}

// The offset after the closing quote of the string whose opening quote stands at `at`; npos without
// one.
std::size_t JsonScanner::string_end(std::size_t at) const {
  ++at;
  while (at < text_.size()) {
    const void* found = std::memchr(text_.data() + at, '"', text_.size() - at);
    if (found == nullptr) break;
    const auto quote = static_cast<std::size_t>(static_cast<const char*>(found) - text_.data());
    // An odd number of backslashes before it makes the quote part of the string.
    std::size_t backslashes = 0;
    while (quote - backslashes > at && text_[quote - backslashes - 1] == '\\') ++backslashes;
    if (backslashes % 2 == 0) return quote + 1;
    at = quote + 1;
  }
  return std::string_view::npos;
}

// The offset after the bracket that closes the one at `at_`; npos without one.
std::size_t JsonScanner::nested_end() const {
  std::size_t depth = 0;
  std::size_t at = at_;
  while (true) {
    at = text_.find_first_of("\"[]{}", at);
    if (at == std::string_view::npos) return at;
    switch (text_[at]) {
      case '"':
        at = string_end(at);
        if (at == std::string_view::npos) return at;
        continue;
      case '[':
      case '{':
        ++depth;
        break;
      default:
        if (--depth == 0) return at + 1;
    }
    ++at;
  }
}

std::optional<std::string_view> JsonScanner::value() {
  skip_space();
  if (at_ == text_.size()) return std::nullopt;
  const char first = text_[at_];
  std::size_t end = 0;
  if (first == '"') {
    end = string_end(at_);
  } else if (first == '[' || first == '{') {
    end = nested_end();
  } else {
    end = std::min(text_.find_first_of(" \t\r\n,:]}", at_), text_.size());
    if (end == at_) return std::nullopt;
  }
  if (end == std::string_view::npos) return std::nullopt;
  const std::size_t begin = std::exchange(at_, end);
  return text_.substr(begin, end - begin);
}

bool JsonReader::read(std::string_view text) {
  problem_.clear();
  return nlohmann::json::sax_parse(text.begin(), text.end(), this) && problem_.empty();
}

bool JsonReader::parse_error(std::size_t offset, const std::string& /*token*/,
                             const nlohmann::detail::exception& /*error*/) {
  return fail("not valid JSON at byte " + std::to_string(offset));
}

bool JsonReader::refuse(const std::string& got) {
  return fail("got " + got + ", expected " + expected());
}

bool JsonReader::fail(std::string problem) {
  if (problem_.empty()) problem_ = std::move(problem);
  return false;
}

}  // namespace ftplan::data

#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.h"

/// Regular expressions of tokenizer files, which are written for Oniguruma, run by PCRE2.
namespace ftplan::data {

struct Match {
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// A compiled pattern; shared by threads, each with its own `RegexMatcher`.
class Regex {
 public:
  /// @error bad input at `where` with the offset in the pattern
  static Result<Regex> compile(std::string_view pattern, const std::string& where);

  [[nodiscard]] const std::string& where() const { return where_; }
  [[nodiscard]] const void* code() const { return code_.get(); }

 private:
  Regex(std::shared_ptr<const void> code, std::string where)
      : code_(std::move(code)), where_(std::move(where)) {}

  std::shared_ptr<const void> code_;
  std::string where_;
};

/// Finds matches of one pattern; holds the memory that matching needs.
class RegexMatcher {
 public:
  explicit RegexMatcher(Regex regex);
  ~RegexMatcher();
  RegexMatcher(RegexMatcher&& other) noexcept;
  RegexMatcher& operator=(RegexMatcher&&) = delete;
  RegexMatcher(const RegexMatcher&) = delete;
  RegexMatcher& operator=(const RegexMatcher&) = delete;

  /// The first match at or after `from`. @pre text is well-formed UTF-8
  /// @error bad input when the pattern takes too many steps on this text
  Result<std::optional<Match>> find(std::string_view text, std::size_t from);

 private:
  Regex regex_;
  void* match_ = nullptr;
  void* context_ = nullptr;
  void* stack_ = nullptr;
};

/// `pattern` with what PCRE2 and Oniguruma understand differently spelled out; see Note [Two
/// engines].
std::string pattern_for_pcre2(std::string_view pattern);

}  // namespace ftplan::data

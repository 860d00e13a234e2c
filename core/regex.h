#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/result.h"

/// Regular expressions of foreign files, run by PCRE2.
namespace ftplan {

/// Whose syntax a pattern is written in. `kOniguruma`: of tokenizer files. `kPython`: of PEFT's
/// options; what is Python's own in it is understood for ASCII text.
enum class RegexDialect : std::uint8_t { kOniguruma, kPython };

/// Whether the text before and behind a match may be anything.
enum class RegexExtent : std::uint8_t { kAnywhere, kWhole };

struct RegexMatch {
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// A compiled pattern; shared by threads, each with its own `RegexMatcher`.
class Regex {
 public:
  /// @error bad input at `where` that shows the pattern
  static Result<Regex> compile(std::string_view pattern, const std::string& where,
                               RegexDialect dialect = RegexDialect::kOniguruma,
                               RegexExtent extent = RegexExtent::kAnywhere);

  [[nodiscard]] const std::string& where() const { return where_; }
  [[nodiscard]] const void* code() const { return code_.get(); }
  /// Backtracking steps after which a match is given up.
  [[nodiscard]] std::uint32_t step_limit() const { return step_limit_; }

 private:
  Regex(std::shared_ptr<const void> code, std::string where, std::uint32_t step_limit)
      : code_(std::move(code)), where_(std::move(where)), step_limit_(step_limit) {}

  std::shared_ptr<const void> code_;
  std::string where_;
  std::uint32_t step_limit_;
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
  Result<std::optional<RegexMatch>> find(std::string_view text, std::size_t from);

 private:
  Regex regex_;
  void* match_ = nullptr;
  void* context_ = nullptr;
  void* stack_ = nullptr;
};

}  // namespace ftplan

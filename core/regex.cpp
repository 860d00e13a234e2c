#include "core/regex.h"

#include <algorithm>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/result.h"

// Note [Other engines]
//
// PCRE2 matches in place of two engines whose syntax is nearly its own.
//
// Python's `re` reads `{,n}` as `{0,n}`, which PCRE2 10.42 takes for text, and `[` within a class
// as a member, which may begin a POSIX class in PCRE2. Both are spelled out. Texts are module
// names, which are ASCII, so what \w or \d say of other characters does not matter.
//
// The `tokenizers` package matches with Oniguruma, Unicode 16. Debian's PCRE2 10.42 knows Unicode
// 14, and its \s also takes U+180E, which is no white space. So:
//   \s and \S         become \p{White_Space} and \P{White_Space}: the same 25 characters in both;
//   \p{L} and \p{N}   get the letters and numbers that came with Unicode 15 and 16, as ranges.
// With a newer PCRE2 the ranges say nothing new. Other properties are left as they are, so
// characters newer than Unicode 14 may fall on another side of them. The two tables are the
// difference of the two engines over all code points; the peer test of the tokenizers compares
// every code point.
namespace ftplan {
namespace {

constexpr std::string_view kNewLetters =
    R"(\x{1C89}-\x{1C8A}\x{A7CB}-\x{A7CD}\x{A7DA}-\x{A7DC}\x{105C0}-\x{105F3}\x{10D4A}-\x{10D65})"
    R"(\x{10D6F}-\x{10D85}\x{10EC2}-\x{10EC4}\x{1123F}-\x{11240}\x{11380}-\x{11389}\x{1138B}\x{1138E})"
    R"(\x{11390}-\x{113B5}\x{113B7}\x{113D1}\x{113D3}\x{11BC0}-\x{11BE0}\x{11F02}\x{11F04}-\x{11F10})"
    R"(\x{11F12}-\x{11F33}\x{1342F}\x{13441}-\x{13446}\x{13460}-\x{143FA}\x{16100}-\x{1611D})"
    R"(\x{16D40}-\x{16D6C}\x{18CFF}\x{1B132}\x{1B155}\x{1DF25}-\x{1DF2A}\x{1E030}-\x{1E06D})"
    R"(\x{1E4D0}-\x{1E4EB}\x{1E5D0}-\x{1E5ED}\x{1E5F0}\x{2B739}\x{2EBF0}-\x{2EE5D}\x{31350}-\x{323AF})";

constexpr std::string_view kNewNumbers =
    R"(\x{10D40}-\x{10D49}\x{116D0}-\x{116E3}\x{11BF0}-\x{11BF9}\x{11F50}-\x{11F59}\x{16130}-\x{16139})"
    R"(\x{16D70}-\x{16D79}\x{1CCF0}-\x{1CCF9}\x{1D2C0}-\x{1D2D3}\x{1E4F0}-\x{1E4F9}\x{1E5F1}-\x{1E5FA})";

struct Respelling {
  std::string_view from;
  std::string_view in_class;  // between the brackets of a class; empty: cannot stand there
  bool bracketed;             // outside a class it needs brackets of its own
};

const std::array<Respelling, 4>& respellings() {
  static const std::string letters = R"(\p{L})" + std::string(kNewLetters);
  static const std::string numbers = R"(\p{N})" + std::string(kNewNumbers);
  static const std::array<Respelling, 4> all{Respelling{R"(\p{L})", letters, true},
                                             Respelling{R"(\p{N})", numbers, true},
                                             Respelling{R"(\s)", R"(\p{White_Space})", false},
                                             Respelling{R"(\S)", R"(\P{White_Space})", false}};
  return all;
}

// The bytes of the escape at the start of `rest`: `\p{...}` as a whole, else the backslash and what
// follows.
std::size_t escape_size(std::string_view rest) {
  if (rest.size() > 2 && (rest[1] == 'p' || rest[1] == 'P' || rest[1] == 'x') && rest[2] == '{') {
    const std::size_t close = rest.find('}');
    if (close != std::string_view::npos) return close + 1;
  }
  return std::min<std::size_t>(2, rest.size());
}

std::string respell_escape(std::string_view escape, bool in_class) {
  for (const Respelling& respelling : respellings()) {
    if (escape != respelling.from) continue;
    const std::string text(respelling.in_class);
    return respelling.bracketed && !in_class ? "[" + text + "]" : text;
  }
  return std::string(escape);
}

// Backtracking steps before a pattern is given up; single-character repeats, as in the usual
// patterns, need few.
constexpr std::uint32_t kMatchLimit = 1'000'000'000;
// Module names are short: what takes longer comes to no end.
constexpr std::uint32_t kNameMatchLimit = 1'000'000;
constexpr std::size_t kFirstJitStack = std::size_t{32} << 10U;
constexpr std::size_t kMostJitStack = std::size_t{8} << 20U;

std::string respell_oniguruma(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  std::size_t at = 0;
  while (at < pattern.size()) {
    if (pattern[at] == '\\') {
      const std::size_t size = escape_size(pattern.substr(at));
      out += respell_escape(pattern.substr(at, size), in_class);
      at += size;
      continue;
    }
    if (pattern[at] == '[' && !in_class) {
      in_class = true;
      // A bracket that closes at once, also after ^, is a member and not the end.
      const std::size_t skip = pattern.substr(at).starts_with("[^") ? 2 : 1;
      out += pattern.substr(at, skip);
      at += skip;
      if (at < pattern.size() && pattern[at] == ']') out += pattern[at++];
      continue;
    }
    if (pattern[at] == ']') in_class = false;
    out += pattern[at++];
  }
  return out;
}

std::string respell_python(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  std::size_t at = 0;
  while (at < pattern.size()) {
    const std::string_view rest = pattern.substr(at);
    std::size_t size = 1;
    if (rest.front() == '\\') {
      size = std::min<std::size_t>(2, rest.size());
      out += rest.substr(0, size);
    } else if (rest.front() == '[' && !in_class) {
      in_class = true;
      size = rest.starts_with("[^") ? 2 : 1;
      // A bracket that closes at once is a member and not the end.
      if (rest.substr(size).starts_with("]")) ++size;
      out += rest.substr(0, size);
    } else if (rest.front() == '[') {
      out += "\\[";
    } else if (rest.starts_with("{,") && !in_class) {
      size = 2;
      out += "{0,";
    } else {
      in_class = in_class && rest.front() != ']';
      out += rest.front();
    }
    at += size;
  }
  return out;
}

}  // namespace

Result<Regex> Regex::compile(std::string_view pattern, const std::string& where,
                             RegexDialect dialect, RegexExtent extent) {
  const bool python = dialect == RegexDialect::kPython;
  const std::string respelled = python ? respell_python(pattern) : respell_oniguruma(pattern);
  // In Ruby's syntax, which Oniguruma uses, ^ and $ match at lines.
  std::uint32_t options = python ? 0 : PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE;
  if (extent == RegexExtent::kWhole) options |= PCRE2_ANCHORED | PCRE2_ENDANCHORED;
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(respelled.data()), respelled.size(),
                                   options, &error, &offset, nullptr);
  if (code == nullptr) {
    std::array<PCRE2_UCHAR, 256> message{};
    pcre2_get_error_message(error, message.data(), message.size());
    return bad_input(where, "the pattern " + std::string(pattern) + " is not understood: " +
                                reinterpret_cast<const char*>(message.data()));
  }
  // Where JIT is missing, pcre2_match interprets: slower, not different.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return Regex(std::shared_ptr<const void>(
                   code, [](void* owned) { pcre2_code_free(static_cast<pcre2_code*>(owned)); }),
               where, python ? kNameMatchLimit : kMatchLimit);
}

RegexMatcher::RegexMatcher(Regex regex) : regex_(std::move(regex)) {
  auto* context = pcre2_match_context_create(nullptr);
  auto* stack = pcre2_jit_stack_create(kFirstJitStack, kMostJitStack, nullptr);
  pcre2_set_match_limit(context, regex_.step_limit());
  pcre2_jit_stack_assign(context, nullptr, stack);
  context_ = context;
  stack_ = stack;
  match_ = pcre2_match_data_create(1, nullptr);
}

RegexMatcher::~RegexMatcher() {
  pcre2_match_data_free(static_cast<pcre2_match_data*>(match_));
  pcre2_match_context_free(static_cast<pcre2_match_context*>(context_));
  pcre2_jit_stack_free(static_cast<pcre2_jit_stack*>(stack_));
}

RegexMatcher::RegexMatcher(RegexMatcher&& other) noexcept
    : regex_(std::move(other.regex_)),
      match_(std::exchange(other.match_, nullptr)),
      context_(std::exchange(other.context_, nullptr)),
      stack_(std::exchange(other.stack_, nullptr)) {}

Result<std::optional<RegexMatch>> RegexMatcher::find(std::string_view text, std::size_t from) {
  auto* match = static_cast<pcre2_match_data*>(match_);
  const int count = pcre2_match(
      static_cast<const pcre2_code*>(regex_.code()), reinterpret_cast<PCRE2_SPTR>(text.data()),
      text.size(), from, PCRE2_NO_UTF_CHECK, match, static_cast<pcre2_match_context*>(context_));
  if (count == PCRE2_ERROR_NOMATCH) return std::optional<RegexMatch>{};
  if (count < 0) {
    return bad_input(regex_.where(), "the pattern takes too many steps on this text (PCRE2 error " +
                                         std::to_string(count) + ")");
  }
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(match);
  return std::optional<RegexMatch>{RegexMatch{ends[0], ends[1]}};
}

}  // namespace ftplan

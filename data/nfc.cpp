#include "data/nfc.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "data/nfc_table.h"
#include "data/utf8.h"

// Note [Clusters]
//
// Only a few characters take part in normalization: marks, what has a decomposition, and what
// composes with the character before it. They are found by a bitmap; text without them is passed
// over. A cluster is one of them with the character before it and all marks behind it: nothing
// outside can change what it becomes.
namespace ftplan::data {
namespace {

// @source The Unicode Standard, section 3.12
constexpr char32_t kSyllables = 0xAC00;
constexpr char32_t kLeads = 0x1100;
constexpr char32_t kVowels = 0x1161;
constexpr char32_t kTails = 0x11A7;  // one before the first: 0 stands for none
constexpr char32_t kLeadCount = 19;
constexpr char32_t kVowelCount = 21;
constexpr char32_t kTailCount = 28;
constexpr char32_t kSyllableCount = kLeadCount * kVowelCount * kTailCount;
// No character below takes part, and in UTF-8 no such lead byte.
constexpr std::uint8_t kFirstLeadByte = 0xCC;

std::uint64_t pair_of(char32_t first, char32_t second) {
  return (std::uint64_t{first} << 32U) | second;
}

bool is_vowel(char32_t c) { return c >= kVowels && c < kVowels + kVowelCount; }
bool is_tail(char32_t c) { return c > kTails && c < kTails + kTailCount; }

struct Tables {
  std::unordered_map<char32_t, std::uint8_t> classes;
  std::unordered_map<char32_t, std::pair<char32_t, char32_t>> decompositions;
  std::unordered_map<std::uint64_t, char32_t> compositions;
  std::vector<bool> takes_part;
  std::vector<bool> joins;  // a mark, or composes with what is before it

  Tables() {
    for (const MarkRange& range : mark_ranges()) {
      for (char32_t c = range.first; c <= range.last; ++c) {
        classes[c] = range.combining_class;
        set(joins, c);
      }
    }
    for (const Decomposition& entry : ftplan::data::decompositions()) {
      decompositions[entry.character] = {entry.first, entry.second};
      // Composed characters are left as they are unless a mark follows.
      if (!entry.composes) set(takes_part, entry.character);
      if (!entry.composes) continue;
      compositions[pair_of(entry.first, entry.second)] = entry.character;
      set(joins, entry.second);
    }
    for (char32_t c = kVowels; c < kVowels + kVowelCount; ++c) set(joins, c);
    for (char32_t c = kTails + 1; c < kTails + kTailCount; ++c) set(joins, c);
    for (char32_t c = 0; c < joins.size(); ++c) {
      if (joins[c]) set(takes_part, c);
    }
  }
  static void set(std::vector<bool>& bits, char32_t c) {
    if (c >= bits.size()) bits.resize(c + 1);
    bits[c] = true;
  }
  static bool has(const std::vector<bool>& bits, char32_t c) { return c < bits.size() && bits[c]; }

  [[nodiscard]] std::uint8_t class_of(char32_t c) const {
    const auto found = classes.find(c);
    return found == classes.end() ? std::uint8_t{0} : found->second;
  }
};

const Tables& tables() {
  static const Tables all;
  return all;
}

void decompose(char32_t c, std::u32string& out) {
  if (c >= kSyllables && c < kSyllables + kSyllableCount) {
    const char32_t index = c - kSyllables;
    out.push_back(kLeads + index / (kVowelCount * kTailCount));
    out.push_back(kVowels + index / kTailCount % kVowelCount);
    if (index % kTailCount != 0) out.push_back(kTails + index % kTailCount);
    return;
  }
  const auto found = tables().decompositions.find(c);
  if (found == tables().decompositions.end()) {
    out += c;
    return;
  }
  decompose(found->second.first, out);
  if (found->second.second != 0) decompose(found->second.second, out);
}

// Marks by their class, stable, between characters that are none.
void reorder(std::u32string& text) {
  const auto class_of = [](char32_t c) { return tables().class_of(c); };
  for (auto begin = text.begin(); begin != text.end();) {
    if (class_of(*begin) == 0) {
      ++begin;
      continue;
    }
    const auto end = std::find_if(begin, text.end(), [&](char32_t c) { return class_of(c) == 0; });
    std::stable_sort(begin, end, [&](char32_t a, char32_t b) { return class_of(a) < class_of(b); });
    begin = end;
  }
}

// What the two compose to; 0: nothing.
char32_t composed(char32_t first, char32_t second) {
  if (first >= kLeads && first < kLeads + kLeadCount && is_vowel(second)) {
    return kSyllables + ((first - kLeads) * kVowelCount + (second - kVowels)) * kTailCount;
  }
  const bool open_syllable = first >= kSyllables && first < kSyllables + kSyllableCount &&
                             (first - kSyllables) % kTailCount == 0;
  if (open_syllable && is_tail(second)) return first + (second - kTails);
  const auto found = tables().compositions.find(pair_of(first, second));
  return found == tables().compositions.end() ? 0 : found->second;
}

// Joins each character with the last starter before it, unless something between them blocks it.
void compose(std::u32string& text) {
  constexpr std::size_t kNone = std::u32string::npos;
  std::size_t starter = kNone;
  std::uint8_t last_class = 0;  // of what was kept behind the starter
  bool adjacent = true;
  std::size_t kept = 0;
  for (const char32_t c : std::u32string(text)) {
    const std::uint8_t its_class = tables().class_of(c);
    const bool blocked = !adjacent && last_class >= its_class;
    const char32_t whole = starter == kNone || blocked ? 0 : composed(text[starter], c);
    if (whole != 0) {
      text[starter] = whole;
      continue;
    }
    if (its_class == 0) starter = kept;
    adjacent = its_class == 0;
    last_class = its_class;
    text[kept++] = c;
  }
  text.resize(kept);
}

std::string normalized(std::string_view cluster) {
  std::u32string text;
  for (std::size_t at = 0; at < cluster.size();) {
    const Utf8Step step = decode_utf8(cluster, at);
    decompose(step.character, text);
    at += step.bytes;
  }
  reorder(text);
  compose(text);
  std::string out;
  for (const char32_t c : text) append_utf8(c, out);
  return out;
}

}  // namespace

std::vector<Replacement> nfc_changes(std::string_view text) {
  const Tables& all = tables();
  std::vector<Replacement> changes;
  std::size_t done = 0;  // no cluster begins before
  for (std::size_t at = 0; at < text.size();) {
    if (static_cast<std::uint8_t>(text[at]) < kFirstLeadByte) {
      ++at;
      continue;
    }
    const Utf8Step step = decode_utf8(text, at);
    if (!Tables::has(all.takes_part, step.character)) {
      at += step.bytes;
      continue;
    }
    const bool joins = Tables::has(all.joins, step.character);
    const std::size_t begin = joins && at > done ? last_character(text.substr(0, at)) : at;
    std::size_t end = at + step.bytes;
    while (end < text.size()) {
      const Utf8Step next = decode_utf8(text, end);
      if (!Tables::has(all.joins, next.character)) break;
      end += next.bytes;
    }
    const std::string_view cluster = text.substr(begin, end - begin);
    if (std::string now = normalized(cluster); now != cluster) {
      changes.push_back({begin, end, std::move(now)});
    }
    at = done = end;
  }
  return changes;
}

}  // namespace ftplan::data

#pragma once

#include <cstdint>
#include <span>

/// Data of Unicode for canonical composition.
namespace ftplan::data {

/// Characters first .. last are marks of one combining class.
struct MarkRange {
  char32_t first;
  char32_t last;
  std::uint8_t combining_class;
};

/// `character` is canonically `first` and `second` (0: nothing), without Hangul, where a formula
/// says it.
struct Decomposition {
  char32_t character;
  char32_t first;
  char32_t second;
  bool composes;  ///< the two become the one again
};

/// Ascending. @source Unicode 9: what the `tokenizers` package has
std::span<const MarkRange> mark_ranges();
std::span<const Decomposition> decompositions();

}  // namespace ftplan::data

#pragma once

#include <array>
#include <cstdint>
#include <tuple>

#include "core/enums.h"
#include "core/fields.h"
#include "data/tokenizer.h"

/// What stands behind the end of a row that is shorter than its batch. It is the target of nothing
/// and no other token sees it, so the choice changes no loss.
namespace ftplan::data {

/// Why it is this one.
enum class PadReason : std::uint8_t {
  kNamed,        ///< the tokenizer's pad token
  kNoneNamed,    ///< the end of a text, as the tokenizer names no pad token
  kOutside,      ///< the same, as the model has no row for the pad token
  kNoTokenizer,  ///< 0, as for tokens data alone, or where a text has no end either
};

struct PadToken {
  std::int32_t id = 0;
  PadReason reason = PadReason::kNoTokenizer;

  friend bool operator==(const PadToken&, const PadToken&) = default;
};

/// @param tokenizer may be null
/// @param vocabulary rows of the model's embedding table; 0: not known
PadToken find_pad_token(const Tokenizer* tokenizer, std::int64_t vocabulary);

}  // namespace ftplan::data

namespace ftplan {

template <>
inline constexpr auto names<data::PadReason> = std::array{
    Name{data::PadReason::kNamed, "named"}, Name{data::PadReason::kNoneNamed, "none-named"},
    Name{data::PadReason::kOutside, "outside"},
    Name{data::PadReason::kNoTokenizer, "no-tokenizer"}};

template <>
inline constexpr auto fields<data::PadToken> =
    std::tuple{Field{"id", &data::PadToken::id, "", Range{0, 1 << 24}, "Its id."},
               Field{"reason", &data::PadToken::reason, "Why it is this one."}};

}  // namespace ftplan

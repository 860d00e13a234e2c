#include "data/pad_token.h"

#include <cstdint>
#include <optional>

#include "data/tokenizer.h"

namespace ftplan::data {

PadToken find_pad_token(const Tokenizer* tokenizer, std::int64_t vocabulary) {
  if (tokenizer == nullptr) return {};
  const auto fits = [&](const std::optional<std::int32_t>& id) {
    return id && *id >= 0 && (vocabulary == 0 || *id < vocabulary);
  };
  const SpecialIds& special = tokenizer->special();
  if (fits(special.pad)) return {*special.pad, PadReason::kNamed};
  if (!fits(special.eos)) return {};
  return {*special.eos, special.pad ? PadReason::kOutside : PadReason::kNoneNamed};
}

}  // namespace ftplan::data

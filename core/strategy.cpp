#include "core/strategy.h"

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace ftplan {

std::string to_text(const Checkpointing& value) {
  if (value.every == 0) return "none";
  if (value.every == 1) return "full";
  return "every-" + std::to_string(value.every);
}

std::optional<Checkpointing> parse_text(std::string_view text, Checkpointing* /*tag*/) {
  if (text == "none") return Checkpointing{.every = 0};
  if (text == "full") return Checkpointing{.every = 1};
  constexpr std::string_view kPrefix = "every-";
  if (!text.starts_with(kPrefix)) return std::nullopt;
  text.remove_prefix(kPrefix.size());
  std::int64_t every = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), every);
  if (error != std::errc() || end != text.data() + text.size() || every < 1) return std::nullopt;
  return Checkpointing{.every = every};
}

std::string expected_text(const Checkpointing* /*tag*/) { return "none | full | every-k"; }

}  // namespace ftplan

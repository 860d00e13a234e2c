#include "core/training.h"

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace ftplan {

std::string to_text(const Cadence& value) {
  if (value.epoch) return "epoch";
  return value.steps == 0 ? "none" : std::to_string(value.steps);
}

std::optional<Cadence> parse_text(std::string_view text, Cadence* /*tag*/) {
  if (text == "none") return Cadence{};
  if (text == "epoch") return Cadence{.epoch = true};
  std::int64_t steps = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), steps);
  if (error != std::errc() || end != text.data() + text.size() || steps < 1) return std::nullopt;
  return Cadence{.steps = steps};
}

std::string expected_text(const Cadence* /*tag*/) { return "none | epoch | a number of steps"; }

std::int64_t period_of(const Cadence& every, std::int64_t steps_per_epoch) {
  return every.epoch ? steps_per_epoch : every.steps;
}

bool is_due(const Cadence& every, std::int64_t step, std::int64_t steps_per_epoch) {
  const std::int64_t period = period_of(every, steps_per_epoch);
  return period > 0 && step % period == 0;
}

}  // namespace ftplan

#include "core/devices.h"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "core/result.h"

namespace ftplan {
namespace {

constexpr std::int64_t kMostDevices = 65536;

// Reads `8x` off the front of `text`; leaves `text` alone when there is no count.
std::optional<std::int64_t> take_count(std::string_view& text) {
  std::int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  const auto used = static_cast<std::size_t>(end - text.data());
  if (error != std::errc() || used + 1 >= text.size() || text[used] != 'x') return std::nullopt;
  text.remove_prefix(used + 1);
  return count;
}

}  // namespace

Result<DeviceLayout> parse_devices(const std::string& text) {
  std::string_view rest = text;
  const std::optional<std::int64_t> first = take_count(rest);
  const std::optional<std::int64_t> second = first ? take_count(rest) : std::nullopt;
  DeviceLayout layout{.name = std::string(rest)};
  if (first) layout.per_node = *first;
  if (second) {
    layout.nodes = *first;
    layout.per_node = *second;
  }
  const bool counts_fit = layout.nodes >= 1 && layout.per_node >= 1 &&
                          layout.nodes <= kMostDevices && layout.per_node <= kMostDevices;
  if (rest.empty() || !counts_fit) {
    return bad_input(
        "--gpus",
        "got \"" + text + "\", expected NAME, COUNTxNAME or NODESxCOUNTxNAME, such as 8xT4");
  }
  return layout;
}

std::string to_text(const DeviceLayout& layout) {
  std::string text = layout.name;
  if (layout.nodes > 1 || layout.per_node > 1) text = std::to_string(layout.per_node) + "x" + text;
  if (layout.nodes > 1) text = std::to_string(layout.nodes) + "x" + text;
  return text;
}

}  // namespace ftplan

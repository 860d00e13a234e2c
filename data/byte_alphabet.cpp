#include "data/byte_alphabet.h"

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "data/utf8.h"

namespace ftplan::data {
namespace {

constexpr char32_t kFirstStandIn = 0x100;
constexpr std::size_t kCharacters = 0x100 + 68;

bool stands_for_itself(char32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

// The byte of each character below `kCharacters`, or -1.
std::array<int, kCharacters> invert_alphabet() {
  std::array<int, kCharacters> bytes{};
  bytes.fill(-1);
  for (std::size_t byte = 0; byte < byte_characters().size(); ++byte) {
    bytes.at(byte_characters().at(byte)) = static_cast<int>(byte);
  }
  return bytes;
}

}  // namespace

const std::array<char32_t, 256>& byte_characters() {
  static const std::array<char32_t, 256> characters = [] {
    std::array<char32_t, 256> all{};
    char32_t stand_in = kFirstStandIn;
    for (char32_t byte = 0; byte < all.size(); ++byte) {
      all.at(byte) = stands_for_itself(byte) ? byte : stand_in++;
    }
    return all;
  }();
  return characters;
}

std::optional<std::string> bytes_of_token(std::string_view token) {
  static const std::array<int, kCharacters> bytes = invert_alphabet();
  std::string out;
  for (std::size_t at = 0; at < token.size();) {
    const Utf8Step step = decode_utf8(token, at);
    if (!step.valid || step.character >= kCharacters || bytes.at(step.character) < 0) {
      return std::nullopt;
    }
    out += static_cast<char>(bytes.at(step.character));
    at += step.bytes;
  }
  return out;
}

}  // namespace ftplan::data

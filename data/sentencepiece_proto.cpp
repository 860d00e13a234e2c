#include "data/sentencepiece_proto.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ftplan::data {
namespace {

enum WireType : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct WireField {
  std::uint64_t number = 0;
  std::uint64_t value = 0;  // of a varint
  std::string_view bytes;   // of a string or message
};

// Steps over the fields of one message.
class MessageReader {
 public:
  explicit MessageReader(std::string_view message) : rest_(message) {}

  std::optional<WireField> next() {
    const auto tag = varint();
    if (!tag) return std::nullopt;
    WireField field{.number = *tag >> 3U};
    switch (*tag & 7U) {
      case kVarint: {
        const auto value = varint();
        if (!value) return std::nullopt;
        field.value = *value;
        return field;
      }
      case kFixed64:
        return take(8, field);
      case kFixed32:
        return take(4, field);
      case kBytes: {
        const auto size = varint();
        return size ? take(*size, field) : std::nullopt;
      }
      default:
        return std::nullopt;
    }
  }

 private:
  std::optional<std::uint64_t> varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<std::uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    return std::nullopt;
  }
  std::optional<WireField> take(std::uint64_t size, WireField field) {
    if (size > rest_.size()) return std::nullopt;
    field.bytes = rest_.substr(0, static_cast<std::size_t>(size));
    rest_.remove_prefix(static_cast<std::size_t>(size));
    return field;
  }

  std::string_view rest_;
};

void read_trainer(std::string_view message, SentencePieceSettings& settings) {
  constexpr std::uint64_t kModelType = 3;
  constexpr std::uint64_t kWhitespaceAsSuffix = 24;
  constexpr std::uint64_t kBpe = 2;
  MessageReader reader(message);
  while (const auto field = reader.next()) {
    if (field->number == kModelType) settings.bpe = field->value == kBpe;
    if (field->number == kWhitespaceAsSuffix) settings.whitespace_as_suffix = field->value != 0;
  }
}

void read_normalizer(std::string_view message, SentencePieceSettings& settings) {
  MessageReader reader(message);
  while (const auto field = reader.next()) {
    switch (field->number) {
      case 2:
        settings.has_character_map = !field->bytes.empty();
        break;
      case 3:
        settings.add_dummy_prefix = field->value != 0;
        break;
      case 4:
        settings.remove_extra_whitespaces = field->value != 0;
        break;
      case 5:
        settings.escape_whitespaces = field->value != 0;
        break;
      default:
        break;
    }
  }
}

constexpr std::uint64_t kTrainerSpec = 2;
constexpr std::uint64_t kNormalizerSpec = 3;

}  // namespace

SentencePieceSettings read_sentencepiece_settings(std::string_view model) {
  SentencePieceSettings settings;
  MessageReader reader(model);
  while (const auto field = reader.next()) {
    if (field->number == kTrainerSpec) read_trainer(field->bytes, settings);
    if (field->number == kNormalizerSpec) read_normalizer(field->bytes, settings);
  }
  return settings;
}

std::string without_dummy_prefix(std::string_view model) {
  // normalizer_spec (3), two bytes: add_dummy_prefix (3) = 0.
  constexpr std::string_view kOff("\x1A\x02\x18\x00", 4);
  return std::string(model) + std::string(kOff);
}

}  // namespace ftplan::data

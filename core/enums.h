#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

/// One table per enum: its words in JSON, flags and reports.
namespace ftplan {

template <class E>
struct Name {
  E value;
  const char* text;
};

/// Specialise with a `std::array` of `Name` to make `E` readable and printable everywhere.
template <class E>
inline constexpr std::array<Name<E>, 0> names{};

template <class E>
concept NamedEnum = std::is_enum_v<E> && (!names<E>.empty());

template <NamedEnum E>
constexpr const char* to_text(E value) {
  for (const auto& name : names<E>) {
    if (name.value == value) return name.text;
  }
  return "?";
}

template <NamedEnum E>
constexpr std::optional<E> from_text(std::string_view text) {
  for (const auto& name : names<E>) {
    if (text == name.text) return name.value;
  }
  return std::nullopt;
}

/// `full | lora | qlora`, for messages and help.
template <NamedEnum E>
std::string expected_text() {
  std::string all;
  for (const auto& name : names<E>) {
    if (!all.empty()) all += " | ";
    all += name.text;
  }
  return all;
}

}  // namespace ftplan

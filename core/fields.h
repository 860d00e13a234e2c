#pragma once

#include <tuple>
#include <type_traits>

/// One line per knob: JSON key, CLI flag, `--help`, docs table and strict reader all come from
/// `fields<T>`.
namespace ftplan {

/// Inclusive limits of a number.
struct Range {
  double low;
  double high;
};

/// A member that text may set. `unit` is empty for what has none; `range` is ignored for
/// non-numbers.
template <class Owner, class Value>
struct Field {
  const char* name;
  Value Owner::* member;
  const char* unit;
  Range range;
  const char* help;

  constexpr Field(const char* field_name, Value Owner::* pointer, const char* field_unit,
                  Range limits, const char* text)
      : name(field_name), member(pointer), unit(field_unit), range(limits), help(text) {}
  constexpr Field(const char* field_name, Value Owner::* pointer, const char* text)
      : Field(field_name, pointer, "", Range{0, 0}, text) {}

  using value_type = Value;
};

/// Specialise with a `std::tuple` of `Field` to make a struct readable and writable.
template <class T>
inline constexpr auto fields = std::tuple<>{};

template <class T>
concept HasFields = std::tuple_size_v<std::remove_cvref_t<decltype(fields<T>)>> > 0;

/// Calls `visit(field)` for each field of `T`, in their order.
template <HasFields T, class Visit>
constexpr void for_each_field(Visit&& visit) {
  std::apply([&](const auto&... field) { (visit(field), ...); }, fields<T>);
}

}  // namespace ftplan

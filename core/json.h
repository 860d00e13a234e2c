#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/enums.h"
#include "core/fields.h"
#include "core/result.h"
#include "core/text.h"
#include "core/units.h"

/// Strict JSON for structs with `fields`: an unknown key, a wrong type or a value out of range is
/// an error that names its place, `job.json#/training/micro_batch: got 0, expected 1..65536
/// sequences`.
namespace ftplan {

/// Keeps the order of keys, so that the same value is always the same bytes.
using Json = nlohmann::ordered_json;

/// Parses `text`. Duplicate keys, comments and trailing commas are errors; `where` names the text
/// in them.
Result<Json> parse_json(std::string_view text, const std::string& where);

/// Two-space indented text with a final newline; short arrays of numbers stay on one line.
std::string render_json(const Json& json);

/// A type that is one string in JSON and on the command line, such as `every-4`.
template <class T>
concept TextCoded = !std::is_enum_v<T> && requires(const T& value, std::string_view text) {
  { to_text(value) } -> std::convertible_to<std::string>;
  { parse_text(text, static_cast<T*>(nullptr)) } -> std::same_as<std::optional<T>>;
  { expected_text(static_cast<const T*>(nullptr)) } -> std::convertible_to<std::string>;
};

/// Whether keys may be left out (they keep their defaults) or the writer was ftplan and all must be
/// there.
enum class Missing { kKeepDefault, kIsAnError };

namespace json_detail {

std::string got(const Json& json);
Error wrong(const std::string& where, const Json& json, const std::string& expected);
std::string expected_number(const Range& range, const char* unit, bool integer);
Result<std::int64_t> read_integer(const Json& json, const std::string& where, Range range,
                                  const char* unit);
Result<double> read_number(const Json& json, const std::string& where, Range range,
                           const char* unit);
Result<std::string> read_string(const Json& json, const std::string& where);
Result<bool> read_bool(const Json& json, const std::string& where);
Error unknown_key(const std::string& where, const std::string& key,
                  const std::vector<std::string>& known);
inline std::string child(const std::string& where, const std::string& key) {
  return where + (where.find('#') == std::string::npos ? "#/" : "/") + key;
}

template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;
template <class T>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<std::vector<T>> = true;

}  // namespace json_detail

/// Reads a struct; `where` names the document and the place in it.
template <HasFields T>
Result<T> from_json(const Json& json, const std::string& where,
                    Missing missing = Missing::kKeepDefault);

/// Reads one value; `range` and `unit` apply to numbers and to the numbers in a list.
template <class T>
Result<T> read_value(const Json& json, const std::string& where, Missing missing,
                     Range range = {std::numeric_limits<double>::lowest(),
                                    std::numeric_limits<double>::max()},
                     const char* unit = "") {
  namespace jd = json_detail;
  if constexpr (HasFields<T>) {
    return from_json<T>(json, where, missing);
  } else if constexpr (jd::is_optional<T>) {
    if (json.is_null() || (json.is_string() && json.get<std::string>() == "auto")) return T{};
    auto value = read_value<typename T::value_type>(json, where, missing, range, unit);
    if (!value) return value.error();
    return T{*std::move(value)};
  } else if constexpr (jd::is_vector<T>) {
    if (!json.is_array()) return jd::wrong(where, json, "a list");
    T list;
    for (std::size_t i = 0; i < json.size(); ++i) {
      auto item = read_value<typename T::value_type>(json[i], jd::child(where, std::to_string(i)),
                                                     missing, range, unit);
      if (!item) return item.error();
      list.push_back(*std::move(item));
    }
    return list;
  } else if constexpr (std::is_same_v<T, Bytes>) {
    auto value = jd::read_integer(json, where, range, "bytes");
    if (!value) return value.error();
    return Bytes{*value};
  } else if constexpr (std::is_same_v<T, bool>) {
    return jd::read_bool(json, where);
  } else if constexpr (std::is_integral_v<T>) {
    auto value = jd::read_integer(json, where, range, unit);
    if (!value) return value.error();
    return static_cast<T>(*value);
  } else if constexpr (std::is_floating_point_v<T>) {
    return jd::read_number(json, where, range, unit);
  } else if constexpr (NamedEnum<T>) {
    if (json.is_string()) {
      if (auto value = from_text<T>(json.get<std::string>())) return *value;
    }
    return jd::wrong(where, json, expected_text<T>());
  } else if constexpr (TextCoded<T>) {
    if (json.is_string()) {
      if (auto value = parse_text(json.get<std::string>(), static_cast<T*>(nullptr))) return *value;
    }
    return jd::wrong(where, json, expected_text(static_cast<const T*>(nullptr)));
  } else if constexpr (std::is_same_v<T, Json>) {
    return json;
  } else {
    static_assert(std::is_same_v<T, std::string>, "type without a JSON form");
    return jd::read_string(json, where);
  }
}

template <HasFields T>
Result<T> from_json(const Json& json, const std::string& where, Missing missing) {
  namespace jd = json_detail;
  if (!json.is_object()) return jd::wrong(where, json, "an object");
  T value;
  std::optional<Error> error;
  std::vector<std::string> known;
  for_each_field<T>([&](const auto& field) {
    known.emplace_back(field.name);
    using Value = typename std::remove_cvref_t<decltype(field)>::value_type;
    const auto entry = json.find(field.name);
    if (error) return;
    if (entry == json.end()) {
      if (missing == Missing::kIsAnError && !jd::is_optional<Value>) {
        error = bad_input(jd::child(where, field.name), "missing");
      }
      return;
    }
    const bool limited = field.range.low != field.range.high;
    auto read = limited ? read_value<Value>(*entry, jd::child(where, field.name), missing,
                                            field.range, field.unit)
                        : read_value<Value>(*entry, jd::child(where, field.name), missing);
    if (read) {
      value.*(field.member) = *std::move(read);
    } else {
      error = read.error();
    }
  });
  if (error) return *error;
  for (const auto& entry : json.items()) {
    if (std::find(known.begin(), known.end(), entry.key()) == known.end()) {
      return jd::unknown_key(where, entry.key(), known);
    }
  }
  return value;
}

template <class T>
Json to_json(const T& value) {
  namespace jd = json_detail;
  if constexpr (HasFields<T>) {
    Json object = Json::object();
    for_each_field<T>([&](const auto& field) {
      const auto& member = value.*(field.member);
      if constexpr (jd::is_optional<std::remove_cvref_t<decltype(member)>>) {
        if (!member) return;
      }
      object[field.name] = to_json(member);
    });
    return object;
  } else if constexpr (jd::is_optional<T>) {
    return value ? to_json(*value) : Json(nullptr);
  } else if constexpr (jd::is_vector<T>) {
    Json list = Json::array();
    for (const auto& item : value) list.push_back(to_json(item));
    return list;
  } else if constexpr (std::is_same_v<T, Bytes>) {
    return value.value;
  } else if constexpr (NamedEnum<T> || TextCoded<T>) {
    return std::string(to_text(value));
  } else {
    return value;
  }
}

}  // namespace ftplan

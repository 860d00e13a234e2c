#pragma once

#include <string>
#include <type_traits>

#include "core/fields.h"
#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"

/// One key of a `config.json`, with the type, range and unit that `ModelConfig` gives its member.
namespace ftplan::models {

template <class T>
Result<T> read_field(const Json& object, const std::string& where, const char* key,
                     T ModelConfig::* member) {
  Range range{0, 0};
  const char* unit = "";
  for_each_field<ModelConfig>([&](const auto& field) {
    if constexpr (std::is_same_v<typename std::remove_cvref_t<decltype(field)>::value_type, T>) {
      if (field.member == member) {
        range = field.range;
        unit = field.unit;
      }
    }
  });
  const std::string place = json_detail::child(where, key);
  return read_value<T>(object.at(key), place, Missing::kKeepDefault, range, unit);
}

/// Whether the key is there with something else than null.
inline bool is_set(const Json& object, const char* key) {
  const auto entry = object.find(key);
  return entry != object.end() && !entry->is_null();
}

/// The key's value, or `otherwise` where it is missing or null.
template <class T>
Result<T> read_or(const Json& json, const std::string& where, const char* key, T otherwise,
                  Range range = {}, const char* unit = "") {
  if (!is_set(json, key)) return otherwise;
  return read_value<T>(json.at(key), json_detail::child(where, key), Missing::kKeepDefault, range,
                       unit);
}

}  // namespace ftplan::models

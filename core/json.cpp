#include "core/json.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/fields.h"
#include "core/result.h"
#include "core/text.h"

namespace ftplan {
namespace {

// nlohmann/json keeps the last of two equal keys; a strict reader must see that there were two.
class DuplicateKeyFinder {
 public:
  bool operator()(int /*depth*/, Json::parse_event_t event, Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
        keys_.emplace_back();
        break;
      case Json::parse_event_t::object_end:
        keys_.pop_back();
        break;
      case Json::parse_event_t::key: {
        const auto& key = parsed.get_ref<const std::string&>();
        if (!keys_.back().insert(key).second && duplicate_.empty()) duplicate_ = key;
        break;
      }
      default:
        break;
    }
    return true;
  }
  [[nodiscard]] const std::string& duplicate() const { return duplicate_; }

 private:
  std::vector<std::set<std::string>> keys_;
  std::string duplicate_;
};

// `line 3, column 14` of a byte offset.
std::string place(std::string_view text, std::size_t offset) {
  offset = std::min(offset, text.size());
  const auto line =
      std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(offset), '\n');
  const std::size_t newline = text.substr(0, offset).rfind('\n');
  const std::size_t column = newline == std::string_view::npos ? offset : offset - newline - 1;
  return "line " + std::to_string(line + 1) + ", column " +
         std::to_string(std::max<std::size_t>(column, 1));
}

bool is_short_list(const Json& json) {
  return json.is_array() && json.size() <= 16 &&
         std::all_of(json.begin(), json.end(),
                     [](const Json& item) { return item.is_primitive(); });
}

void render(const Json& json, int indent, std::string& out) {
  const std::string inner(static_cast<std::size_t>(indent) + 2, ' ');
  if ((json.is_object() || json.is_array()) && !json.empty() && !is_short_list(json)) {
    out += json.is_object() ? "{\n" : "[\n";
    bool first = true;
    for (const auto& entry : json.items()) {
      if (!first) out += ",\n";
      first = false;
      out += inner;
      if (json.is_object()) out += Json(entry.key()).dump() + ": ";
      render(entry.value(), indent + 2, out);
    }
    out +=
        "\n" + std::string(static_cast<std::size_t>(indent), ' ') + (json.is_object() ? "}" : "]");
    return;
  }
  if (is_short_list(json)) {
    out += "[";
    for (std::size_t i = 0; i < json.size(); ++i) {
      if (i > 0) out += ", ";
      out += json[i].dump();
    }
    out += "]";
    return;
  }
  out += json.dump();
}

}  // namespace

Result<Json> parse_json(std::string_view text, const std::string& where) {
  DuplicateKeyFinder finder;
  try {
    Json json = Json::parse(text.begin(), text.end(),
                            [&](int depth, Json::parse_event_t event, Json& parsed) {
                              return finder(depth, event, parsed);
                            });
    if (!finder.duplicate().empty()) {
      return bad_input(where, "the key \"" + finder.duplicate() + "\" stands twice in one object");
    }
    return json;
  } catch (const Json::parse_error& error) {
    return bad_input(where, "not valid JSON at " + place(text, error.byte));
  } catch (const Json::out_of_range&) {
    return bad_input(where, "holds a number that is too large for a double");
  }
}

std::string render_json(const Json& json) {
  std::string out;
  render(json, 0, out);
  return out + "\n";
}

namespace json_detail {

std::string got(const Json& json) {
  if (json.is_object()) return "an object";
  if (json.is_array()) return "a list";
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  constexpr std::size_t kLongest = 60;
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

Error wrong(const std::string& where, const Json& json, const std::string& expected) {
  return bad_input(where, "got " + got(json) + ", expected " + expected);
}

std::string expected_number(const Range& range, const char* unit, bool integer) {
  std::string text = integer ? "an integer" : "a number";
  constexpr double kUnlimited = 1e30;
  if (range.low > -kUnlimited && range.high < kUnlimited) {
    text = format_number(range.low) + ".." + format_number(range.high);
    if (integer) {
      text = std::to_string(static_cast<std::int64_t>(range.low)) + ".." +
             std::to_string(static_cast<std::int64_t>(range.high));
    }
  }
  return *unit == '\0' ? text : text + " " + unit;
}

Result<std::int64_t> read_integer(const Json& json, const std::string& where, Range range,
                                  const char* unit) {
  const bool fits = json.is_number_integer() &&
                    !(json.is_number_unsigned() &&
                      json.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX));
  if (fits) {
    const auto value = json.get<std::int64_t>();
    const auto real = static_cast<double>(value);
    if (real >= range.low && real <= range.high) return value;
  }
  return wrong(where, json, expected_number(range, unit, /*integer=*/true));
}

Result<double> read_number(const Json& json, const std::string& where, Range range,
                           const char* unit) {
  if (json.is_number()) {
    const auto value = json.get<double>();
    if (std::isfinite(value) && value >= range.low && value <= range.high) return value;
  }
  return wrong(where, json, expected_number(range, unit, /*integer=*/false));
}

Result<std::string> read_string(const Json& json, const std::string& where) {
  if (!json.is_string()) return wrong(where, json, "a string");
  return json.get<std::string>();
}

Result<bool> read_bool(const Json& json, const std::string& where) {
  if (!json.is_boolean()) return wrong(where, json, "true or false");
  return json.get<bool>();
}

Error unknown_key(const std::string& where, const std::string& key,
                  const std::vector<std::string>& known) {
  return bad_input(child(where, key), "unknown key; did you mean \"" + nearest(key, known) + "\"?");
}

}  // namespace json_detail
}  // namespace ftplan

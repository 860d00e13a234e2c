#include "tools/import/yaml.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "core/json.h"
#include "core/result.h"

namespace ftplan::tools {
namespace {

constexpr int kDeepest = 64;
constexpr std::int64_t kMostValues = 100'000;

bool is_one_of(std::string_view text, const std::array<std::string_view, 3>& words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

// What a scalar without quotes stands for.
Json plain(const std::string& text) {
  if (text.empty() || text == "~" || is_one_of(text, {"null", "Null", "NULL"})) return nullptr;
  if (is_one_of(text, {"true", "True", "TRUE"})) return true;
  if (is_one_of(text, {"false", "False", "FALSE"})) return false;
  const Json number = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  return number.is_number() ? number : Json(text);
}

class Converter {
 public:
  explicit Converter(const std::string& where) : where_(where) {}

  Result<Json> convert(const YAML::Node& node, int depth = 0) {
    if (depth > kDeepest) return wrong(node, "is nested too deeply");
    if (++values_ > kMostValues) return wrong(node, "has too many values");
    switch (node.Type()) {
      case YAML::NodeType::Scalar:
        return node.Tag() == "!" ? Json(node.Scalar()) : plain(node.Scalar());
      case YAML::NodeType::Sequence:
        return list(node, depth);
      case YAML::NodeType::Map:
        return object(node, depth);
      default:
        return Json(nullptr);
    }
  }

 private:
  Result<Json> list(const YAML::Node& node, int depth) {
    Json out = Json::array();
    for (const YAML::Node& item : node) {
      auto value = convert(item, depth + 1);
      if (!value) return value;
      out.push_back(*std::move(value));
    }
    return out;
  }

  Result<Json> object(const YAML::Node& node, int depth) {
    Json out = Json::object();
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) return wrong(entry.first, "has a key that is no text");
      const std::string& key = entry.first.Scalar();
      if (out.contains(key)) return wrong(entry.first, "has a key twice");
      auto value = convert(entry.second, depth + 1);
      if (!value) return value;
      out[key] = *std::move(value);
    }
    return out;
  }

  [[nodiscard]] Error wrong(const YAML::Node& node, const std::string& what) const {
    return bad_input(where_ + ":" + std::to_string(node.Mark().line + 1), what);
  }

  const std::string& where_;
  std::int64_t values_ = 0;
};

}  // namespace

Result<Json> parse_yaml(std::string_view text, const std::string& where) {
  try {
    return Converter(where).convert(YAML::Load(std::string(text)));
  } catch (const YAML::Exception& error) {
    return bad_input(where + ":" + std::to_string(error.mark.line + 1),
                     "is not YAML: " + error.msg);
  }
}

}  // namespace ftplan::tools

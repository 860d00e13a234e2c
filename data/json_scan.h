#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/json.h"

/// JSON that is too large for a tree: finds where values begin and end, and reads them event by
/// event.
namespace ftplan::data {

/// Walks over JSON text without building anything. It sees strings and brackets, not whether a
/// value is well formed: whoever reads the value finds that out.
class JsonScanner {
 public:
  explicit JsonScanner(std::string_view text) : text_(text) {}

  /// Takes `symbol` if it is the next thing after white space.
  bool take(char symbol);
  /// The text of the next value, or nothing where none begins or it does not end.
  std::optional<std::string_view> value();
  [[nodiscard]] bool at_end();
  [[nodiscard]] std::size_t offset() const { return at_; }

 private:
  void skip_space();
  std::size_t string_end(std::size_t at) const;
  std::size_t nested_end() const;

  std::string_view text_;
  std::size_t at_ = 0;
};

/// Receives the events of a JSON text and refuses each that a reader does not expect.
class JsonReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  /// Reads `text`; after false, `problem()` says why: the reader's own words, or `not valid JSON`.
  bool read(std::string_view text);
  [[nodiscard]] const std::string& problem() const { return problem_; }

  bool null() override { return refuse("null"); }
  bool boolean(bool /*value*/) override { return refuse("true or false"); }
  bool number_integer(std::int64_t value) override { return refuse(std::to_string(value)); }
  bool number_unsigned(std::uint64_t value) override { return refuse(std::to_string(value)); }
  bool number_float(double /*value*/, const std::string& text) override { return refuse(text); }
  bool string(std::string& /*value*/) override { return refuse("a string"); }
  bool binary(nlohmann::json::binary_t& /*value*/) override { return refuse("binary"); }
  bool start_object(std::size_t /*size*/) override { return refuse("an object"); }
  bool key(std::string& key) override { return refuse("the key \"" + key + "\""); }
  bool end_object() override { return true; }
  bool start_array(std::size_t /*size*/) override { return refuse("a list"); }
  bool end_array() override { return true; }
  bool parse_error(std::size_t offset, const std::string& token,
                   const nlohmann::detail::exception& error) override;

 protected:
  /// What should have come instead of what came, at this point.
  [[nodiscard]] virtual std::string expected() const = 0;
  bool refuse(const std::string& got);
  bool fail(std::string problem);

 private:
  std::string problem_;
};

}  // namespace ftplan::data

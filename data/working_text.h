#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// Text on its way through a tokenizer, and where in the text that came in its bytes come from.
namespace ftplan::data {

/// A part of a text. Its byte i stands for bytes up to `end_of(i + 1)` of the text that came in.
struct Part {
  std::string_view text;
  const std::size_t* ends = nullptr;  ///< of each byte; null: the bytes are those that came in
  std::size_t offset = 0;             ///< where they begin there; only without `ends`

  /// @pre 1 <= bytes <= text.size()
  [[nodiscard]] std::size_t end_of(std::size_t bytes) const {
    return ends == nullptr ? offset + bytes : ends[bytes - 1];
  }
  /// The part that `inner` is, a view into `text`.
  [[nodiscard]] Part part_at(std::string_view inner) const {
    const auto begin = static_cast<std::size_t>(inner.data() - text.data());
    return {inner, ends == nullptr ? nullptr : ends + begin, offset + begin};
  }
};

/// Whether ends are kept, which costs memory.
enum class Tracking : std::uint8_t { kOff, kOn };

/// A copy of a part that steps of a tokenizer change.
class WorkingText {
 public:
  WorkingText(const Part& part, Tracking tracking);

  [[nodiscard]] Part part() const;
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

  /// What is put in front counts as the first byte.
  void prepend(std::string_view text);
  void replace_all(std::string_view from, std::string_view to);
  /// Normalization form C; what changes ends where all that it was made of ended.
  void compose();

 private:
  struct Change {
    std::size_t begin;
    std::size_t end;
    std::string_view text;
  };
  // Puts the changes in that `next` gives from an offset on.
  template <class Next>
  void rebuild(const Next& next);

  std::string bytes_;
  std::vector<std::size_t> ends_;  // as in Part; empty without tracking
  Tracking tracking_;
};

}  // namespace ftplan::data

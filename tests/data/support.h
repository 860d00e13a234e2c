#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "data/documents.h"
#include "data/rows.h"
#include "data/tokenizer.h"

namespace ftplan::data {

/// A folder of its own for a test, removed at its end.
class TestFolder {
 public:
  TestFolder();
  ~TestFolder();
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  /// Writes a file; its path.
  [[nodiscard]] std::string write(const std::string& name, std::string_view content) const;
  [[nodiscard]] std::string path(const std::string& name) const {
    return (folder_ / name).string();
  }

 private:
  std::filesystem::path folder_;
};

/// One token a byte, so that expected ids can be read: BOS 256 before a text, EOS 257.
class ByteTokenizer : public Tokenizer {
 public:
  static constexpr std::int32_t kBos = 256;
  static constexpr std::int32_t kEos = 257;

  explicit ByteTokenizer(std::string digest = "bytes", bool has_eos = true,
                         std::optional<std::int32_t> pad = {});
  [[nodiscard]] std::unique_ptr<Encoder> encoder() const override;
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids,
                                   SpecialText special) const override;
  [[nodiscard]] std::string bytes(std::int32_t id) const override;
  [[nodiscard]] bool drops_first_space() const override { return false; }
  [[nodiscard]] std::string piece(std::int32_t id) const override { return bytes(id); }
  [[nodiscard]] bool is_special(std::int32_t id) const override { return id >= kBos; }
  [[nodiscard]] std::int64_t vocabulary() const override { return kEos + 1; }

  /// How many texts were encoded by any tokenizer of this kind.
  static std::int64_t encoded();
};

/// BOS, the bytes, EOS.
std::vector<std::int32_t> ids_of_text(std::string_view text);

/// A file's content in one string.
std::string read_file(const std::string& path);

/// Documents 0, 1, ... of the given lengths; token t of document d has the id 1000 * d + t. The
/// first `unlearned` tokens of each have no label.
Documents documents_of_lengths(const std::vector<std::int64_t>& lengths,
                               std::int64_t unlearned = 0);

/// 0 .. count - 1.
std::vector<std::int64_t> all(std::int64_t count);

/// The text of the error, or "no error".
template <class T>
std::string error_of(const Result<T>& result) {
  return result.ok() ? "no error" : result.error().text();
}

}  // namespace ftplan::data

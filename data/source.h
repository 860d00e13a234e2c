#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/data_options.h"
#include "core/result.h"
#include "data/mapped_file.h"

/// Files to learn from, and the records in them.
namespace ftplan::data {

/// How records lie in a file.
enum class Layout : std::uint8_t {
  kJsonList,    ///< `[{...}, {...}]`
  kJsonLines,   ///< one object a line
  kPlainText,   ///< the whole file is one text
  kJsonObject,  ///< one object of columns: tokens
};

struct SourceFile {
  std::string path;
  MappedFile file;
  DataFormat format = DataFormat::kText;
  Layout layout = Layout::kPlainText;

  /// The content without a byte order mark.
  [[nodiscard]] std::string_view text() const;
};

/// Opens a file and finds out what it holds: from the name's ending, the first character, and the
/// keys of the first record. `format` overrules the keys.
/// @error bad input that names the file: empty or not to be understood
Result<SourceFile> open_source(const std::string& path, std::optional<DataFormat> format);

/// Opens all files; they must hold the same format.
Result<std::vector<SourceFile>> open_sources(const std::vector<std::string>& paths,
                                             std::optional<DataFormat> format);

/// One record, not looked into.
struct Record {
  std::string_view text;
  std::int64_t number = 0;  ///< from 1, empty lines not counted
};

/// `data.json record 17`, the place of errors.
std::string record_place(const std::string& path, std::int64_t number);

/// Cuts a file into its records. @pre the layout is not kJsonObject
class RecordReader {
 public:
  explicit RecordReader(const SourceFile& source);

  /// The next record, or nothing at the end.
  /// @error bad input that names file and record: a list that is cut off or misses a comma
  Result<std::optional<Record>> next();
  /// Share of the file that was read.
  [[nodiscard]] double progress() const {
    return std::min(1.0, static_cast<double>(at_) / static_cast<double>(text_.size()));
  }

 private:
  Result<std::optional<Record>> next_of_list();
  std::optional<Record> next_line();

  const SourceFile& source_;
  std::string_view text_;
  std::size_t at_ = 0;
  std::int64_t number_ = 0;
  bool ended_ = false;
};

}  // namespace ftplan::data

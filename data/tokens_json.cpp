#include "data/tokens_json.h"

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/result.h"
#include "data/atomic_file.h"
#include "data/documents.h"
#include "data/json_scan.h"
#include "data/rows.h"
#include "data/source.h"

namespace ftplan::data {
namespace {

struct Column {
  const char* name;
  bool present = false;
  std::vector<std::int32_t> values;
  std::vector<std::int64_t> ends;

  [[nodiscard]] std::int64_t begin(std::size_t row) const { return row == 0 ? 0 : ends[row - 1]; }
};

class TokensReader : public JsonReader {
 public:
  bool number_integer(std::int64_t value) override {
    const bool is_label = column_ == &labels && value == kNoLabel;
    if (depth_ != kInRow || !is_label) return refuse(std::to_string(value));
    column_->values.push_back(kNoLabel);
    return true;
  }
  bool number_unsigned(std::uint64_t value) override {
    if (depth_ != kInRow || value > std::numeric_limits<std::int32_t>::max()) {
      return refuse(std::to_string(value));
    }
    column_->values.push_back(static_cast<std::int32_t>(value));
    return true;
  }
  bool start_object(std::size_t /*size*/) override {
    if (depth_ != kOutside) return refuse("an object");
    depth_ = kInObject;
    return true;
  }
  bool key(std::string& key) override {
    for (Column* column : {&ids, &labels}) {
      if (key != column->name) continue;
      if (column->present) return fail("has the key \"" + key + "\" twice");
      column->present = true;
      column_ = column;
      return true;
    }
    return refuse("the key \"" + key + "\"");
  }
  bool start_array(std::size_t /*size*/) override {
    if (depth_ != kInObject && depth_ != kInColumn) return refuse("a list");
    depth_ = depth_ == kInObject ? kInColumn : kInRow;
    return true;
  }
  bool end_array() override {
    if (depth_ == kInRow) {
      const auto end = static_cast<std::int64_t>(column_->values.size());
      if (column_->begin(column_->ends.size()) == end) {
        return fail(std::string(column_->name) + " is empty; leave the row out");
      }
      column_->ends.push_back(end);
    }
    depth_ = depth_ == kInRow ? kInColumn : kInObject;
    return true;
  }

  // Where reading stopped.
  [[nodiscard]] std::string place(const std::string& path) const {
    if (depth_ < kInColumn) return path;
    return record_place(path, static_cast<std::int64_t>(column_->ends.size()) + 1);
  }

  Column ids{.name = "input_ids"};
  Column labels{.name = "labels"};

 protected:
  [[nodiscard]] std::string expected() const override {
    switch (depth_) {
      case kOutside:
        return "an object with input_ids and labels";
      case kInObject:
        return "the keys input_ids and labels, each with a list of rows";
      case kInColumn:
        return std::string("a row of ") + column_->name + " as a list";
      default:
        return column_ == &ids ? "an id in input_ids" : "an id or -100 in labels";
    }
  }

 private:
  enum Depth : std::uint8_t { kOutside, kInObject, kInColumn, kInRow };
  Depth depth_ = kOutside;
  Column* column_ = nullptr;
};

Result<void> check_columns(const TokensReader& reader, const std::string& path) {
  if (!reader.ids.present) return bad_input(path, "has no input_ids");
  if (reader.ids.ends.empty()) return bad_input(path, "holds no rows: input_ids is empty");
  if (!reader.labels.present) return {};
  if (reader.ids.ends.size() != reader.labels.ends.size()) {
    return bad_input(path, "has " + std::to_string(reader.labels.ends.size()) +
                               " rows of labels for " + std::to_string(reader.ids.ends.size()) +
                               " rows of input_ids");
  }
  for (std::size_t row = 0; row < reader.ids.ends.size(); ++row) {
    const auto length = [&](const Column& column) { return column.ends[row] - column.begin(row); };
    if (length(reader.ids) == length(reader.labels)) continue;
    return bad_input(record_place(path, static_cast<std::int64_t>(row) + 1),
                     "has " + std::to_string(length(reader.labels)) + " labels for " +
                         std::to_string(length(reader.ids)) + " input_ids");
  }
  return {};
}

void write_list(AtomicFile& file, std::span<const std::int32_t> values, std::string& text) {
  text = "[";
  std::array<char, 16> digits{};
  for (const std::int32_t value : values) {
    if (text.size() > 1) text += ',';
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    text.append(digits.data(), end);
  }
  text += ']';
  file.write(text);
}

// One list for each row, or for each document of rows that isolate them.
void write_column(AtomicFile& file, const RowSet& rows, const std::vector<std::int32_t>& values) {
  std::string text;
  bool first = true;
  for (std::int64_t row = 0; row < rows.rows(); ++row) {
    const std::span<const std::int32_t> in_row = rows.part_of(values, row);
    rows.for_each_document(row, [&](std::int64_t begin, std::int64_t end) {
      file.write(std::exchange(first, false) ? "\n" : ",\n");
      write_list(
          file,
          in_row.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
          text);
    });
  }
}

}  // namespace

Result<void> read_tokens(const SourceFile& source, Documents& documents) {
  TokensReader reader;
  if (!reader.read(source.text())) return bad_input(reader.place(source.path), reader.problem());
  if (auto checked = check_columns(reader, source.path); !checked) return checked.error();
  Documents rows;
  rows.ids = std::move(reader.ids.values);
  rows.labels = reader.labels.present ? std::move(reader.labels.values) : rows.ids;
  rows.ends = std::move(reader.ids.ends);
  if (documents.ids.empty()) {
    rows.file_ends = std::move(documents.file_ends);
    documents = std::move(rows);
  } else {
    documents.append(rows);
  }
  documents.close_file();
  return {};
}

Result<void> write_tokens(const RowSet& rows, const std::string& path) {
  auto file = AtomicFile::create(path);
  if (!file) return file.error();
  file->write("{\"input_ids\": [");
  write_column(*file, rows, rows.ids);
  file->write("],\n\"labels\": [");
  write_column(*file, rows, rows.labels);
  file->write("]}\n");
  return file->commit();
}

}  // namespace ftplan::data

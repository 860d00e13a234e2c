#include "tools/table.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

namespace ftplan::tools {
namespace {

std::string render_row(const std::vector<std::string>& row, const std::vector<std::size_t>& widths,
                       std::size_t left) {
  std::string line;
  for (std::size_t c = 0; c < row.size(); ++c) {
    const std::string padding(widths[c] - row[c].size(), ' ');
    if (c > 0) line += "  ";
    line += c < left ? row[c] + padding : padding + row[c];
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line + "\n";
}

}  // namespace

std::string render_table(const Table& table) {
  std::vector<std::size_t> widths(table.head.size());
  const auto widen = [&](const std::vector<std::string>& row) {
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  };
  widen(table.head);
  for (const auto& row : table.rows) widen(row);
  std::string text = render_row(table.head, widths, table.left);
  for (const auto& row : table.rows) text += render_row(row, widths, table.left);
  return text;
}

}  // namespace ftplan::tools
